"""Uploads: from received bytes to a queued video."""
