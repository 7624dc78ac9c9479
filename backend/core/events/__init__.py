"""The log of what happened to videos, and who delivers it to webhooks."""
