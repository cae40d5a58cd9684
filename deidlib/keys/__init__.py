"""Keys: the secret, what it rearranges, and what a reader is told of it."""
