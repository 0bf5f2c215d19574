"""Where saved conversations live."""
