"""Cutting people out, and putting them back."""
