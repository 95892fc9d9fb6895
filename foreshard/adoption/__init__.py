"""Taking over a fleet that is there: what it says of itself, what its shards show, and what follows from both."""
