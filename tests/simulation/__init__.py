"""Deterministic simulation of the queue protocol: one integer seed is one schedule (docs/queue.md)."""
