"""What everybody decides by: the signed directory and the decisions over it."""
