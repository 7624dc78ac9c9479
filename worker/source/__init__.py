"""The source: feed it to ffmpeg, probe it, describe it, bound its length."""
