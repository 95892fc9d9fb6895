"""Query logs of PostgreSQL (jsonlog and csvlog) as a source of load."""
