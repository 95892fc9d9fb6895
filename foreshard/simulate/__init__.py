"""A policy replayed on history: what prediction is worth. Pure: same trace, fleet and policy, same report."""
