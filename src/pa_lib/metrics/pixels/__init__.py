"""Metrics of pixels outside the masks."""
