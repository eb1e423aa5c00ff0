"""What every process on the wire shares: the pure protocol, and the edges to gRPC, logs and files."""
