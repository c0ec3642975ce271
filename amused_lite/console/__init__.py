"""What a terminal shows: safe text, errors in one line, and exit codes."""
