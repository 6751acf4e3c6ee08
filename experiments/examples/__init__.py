"""Examples that run as they are; each says in its first line what it needs."""
