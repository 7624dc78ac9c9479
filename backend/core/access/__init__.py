"""Who may do what: the keys that sign tokens, and the sessions of signed-in browsers."""
