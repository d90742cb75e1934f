"""The training of a stack: the loop, what its steps add up to, and what comes of it."""
