"""The worker's life: poll, claim, run a job with heartbeat and status, sweep, stop."""
