"""The `zhiwang` command, one file for each noun."""
