"""The embedded fleet of PostgreSQL servers, and the airline that lives on it in the demo."""
