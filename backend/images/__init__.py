"""Decode and rewrite uploaded images, in a process of its own for each."""
