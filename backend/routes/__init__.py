"""One module of request handlers per resource, and the services they receive."""
