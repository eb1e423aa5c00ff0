"""Whole rosters from a file to a file: `zhiwang sweep`."""
