"""uvicorn with bounds on what a client may send, how slowly, and over how many connections."""
