"""Faults on the wire, in processes and in what is stored: one row of docs/reliability.md each."""
