"""Request handlers, one module per resource, and the services they receive."""
