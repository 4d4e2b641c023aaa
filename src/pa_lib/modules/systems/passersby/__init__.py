"""Passersby-Anonymizer."""
