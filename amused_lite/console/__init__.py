"""What every command shares: flags and their types, errors in one line, exit codes, and text that is safe to print."""
