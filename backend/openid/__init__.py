"""Sign-in through an OpenID Connect provider: the provider's side, and a browser's way there and back."""
