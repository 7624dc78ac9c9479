"""The source: feed it to ffmpeg, probe it, describe it, limit its duration."""
