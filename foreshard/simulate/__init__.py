"""A policy replayed on history: what prediction is worth. Pure: the same trace, fleet and policy give the same report."""
