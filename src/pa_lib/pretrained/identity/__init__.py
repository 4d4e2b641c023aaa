"""Face identity networks."""
