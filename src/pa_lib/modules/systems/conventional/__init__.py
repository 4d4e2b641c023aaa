"""Blur, mosaic, fill and noise."""
