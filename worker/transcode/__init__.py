"""One attempt at one video: orchestrate the pipeline, fall back to software, blame the source."""
