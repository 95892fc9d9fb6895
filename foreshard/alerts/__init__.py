"""What a person must hear of: conditions of the fleet, told once when they begin and once when they are over."""
