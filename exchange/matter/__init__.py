"""What a matter makes of a case: its rule, its points, and who is counted where."""
