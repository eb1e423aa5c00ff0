"""Evidence: entries of a log in words, with the rules of their day, and bundles of them for a court."""
