"""The owner's process beside its database."""
