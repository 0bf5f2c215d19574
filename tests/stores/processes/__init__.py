"""Programs that tests start, crowd together and kill."""
