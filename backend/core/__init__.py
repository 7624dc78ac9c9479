"""What vodbucket means in objects of a bucket. No HTTP, no processes, no environment."""
