"""How a bucket's rows, and what comes after them, get to the target."""
