"""Doubles without a network that generates."""
