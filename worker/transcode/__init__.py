"""One attempt at one video: run the pipeline, fall back to software, diagnose a broken source."""
