"""The parts into which the work on one video is divided: each can be done by any worker, and done again."""
