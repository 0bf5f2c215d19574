"""Programs that tests run in child processes."""
