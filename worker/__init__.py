"""The worker: claims jobs and transcodes videos."""
