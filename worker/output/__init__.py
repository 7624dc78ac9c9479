"""Outputs: store segments, playlists, WebM and side files, and verify them."""
