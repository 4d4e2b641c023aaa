"""Prompts to conditions, all behind `AbstractText`."""
