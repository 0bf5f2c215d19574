"""JSON to values and back: the API's messages, saved entries, completions, chunks and errors."""
