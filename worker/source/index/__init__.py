"""Where the keyframes of a source are, by its own index: nothing else of the file is read."""
