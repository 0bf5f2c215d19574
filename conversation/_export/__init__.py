"""A conversation in other forms, one module a form."""
