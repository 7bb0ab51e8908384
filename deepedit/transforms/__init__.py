"""Arrays to arrays: every spatial step knows its own inverse."""
