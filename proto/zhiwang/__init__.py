"""Zhiwang 织网: what every process on the wire shares."""
