"""The sweeper: find and remove what crashes left behind."""
