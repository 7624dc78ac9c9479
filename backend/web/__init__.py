"""HTTP for the routes: request bodies, forms, captions, tus headers, sign-in, errors, static files."""
