"""Webhooks: POST each event to the operator's endpoints, at least once, in order for each video."""
