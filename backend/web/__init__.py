"""Reading requests and writing errors: bodies, forms, tus headers, sign-in, the site's files."""
