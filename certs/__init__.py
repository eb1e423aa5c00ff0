"""Identities and keys: authority, certificates, TLS, signing, sealing, revocation."""
