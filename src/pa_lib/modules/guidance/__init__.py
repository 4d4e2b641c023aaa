"""Guidance: what changes a prediction while sampling."""
