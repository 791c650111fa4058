"""One module a page: what it shows, and the forms that stand on it."""
