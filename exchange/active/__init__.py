"""Active service: what a department does with the results about a list of its own people."""
