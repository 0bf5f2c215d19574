"""Histories of other programs to lists of Chat Completions messages."""
