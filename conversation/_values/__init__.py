"""The values of a conversation: frozen, comparable, without I/O and without a wire form."""
