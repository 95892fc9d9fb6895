"""What Foreshard tells Prometheus about the fleet: shards, forecasts, plans, migrations."""
