"""Active service: what comes of a list of a department's own people, and of names that were handed to it."""
