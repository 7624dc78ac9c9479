"""Playback grants, manifests with captions, and which run of a video to play."""
