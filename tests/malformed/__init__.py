"""Malformed and illegal bytes on one connection, while others keep exchanging QoS 2 messages."""
