"""Load series in, quantiles out. Pure: no database, and no clock of its own."""
