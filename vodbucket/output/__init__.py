"""What people read in a terminal: tables, progress bars, error messages."""
