"""What the layers of a saved run encode, and what it loses without its parts: probes and ablations."""
