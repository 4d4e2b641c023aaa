"""Metrics over time: distributions of clips, and flicker."""
