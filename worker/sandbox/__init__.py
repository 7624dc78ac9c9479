"""Run external programs safely: processes, limits, allow-lists, workspaces, loopback servers."""
