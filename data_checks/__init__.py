"""Great Expectations checks of a migration: evidence of both sides, suites, and the gate that judges."""
