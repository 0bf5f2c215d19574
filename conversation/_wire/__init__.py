"""JSON to values and back: messages, saved entries, completions, chunks and errors."""
