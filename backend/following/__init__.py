"""Who follows videos: one reader of the store for all subscribers of a process."""
