"""Networks that describe videos."""
