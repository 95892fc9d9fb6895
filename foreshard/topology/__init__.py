"""Which bucket a key is in, where that bucket lies, and who serves the key now. Pure: no I/O."""
