"""What a saved run knows and what it loses: probes and ablations."""
