"""Outputs: store the segments, playlists, WebM and side files, and verify them."""
