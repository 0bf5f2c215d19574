"""Turns, a moment and settings to the messages of a request, and the reason for each; pure."""
