"""The load generator against the broker, at sizes that take seconds."""
