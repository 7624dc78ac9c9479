"""Encoding plans, and the command lines of ffmpeg and the packager. Mostly pure."""
