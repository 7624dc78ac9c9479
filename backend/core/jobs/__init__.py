"""The job queue: claim, renew, publish, retry, and an overview for operators."""
