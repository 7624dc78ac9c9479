"""The commands: their arguments, help, output and exit codes."""
