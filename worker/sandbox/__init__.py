"""Running foreign programs safely: processes, limits, allow-lists, workspaces, loopback servers."""
