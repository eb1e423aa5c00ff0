"""The append-only log: entries, checkpoints, proofs, storage and service."""
