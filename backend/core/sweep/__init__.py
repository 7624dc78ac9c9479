"""The sweeper: finds and removes leftovers of crashes."""
