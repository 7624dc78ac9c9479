"""Fetching: get the source of a job from where it is into the bucket."""
