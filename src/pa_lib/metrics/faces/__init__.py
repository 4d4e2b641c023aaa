"""Metrics of faces: who can still be recognised."""
