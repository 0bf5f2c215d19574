"""Conversations in other formats, one module for each; `formats` lists them."""
