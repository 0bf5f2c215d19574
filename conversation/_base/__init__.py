"""The base of both twins: all that does not wait, and the steps of what does."""
