"""Videos and their captions: add, list, change, delete."""
