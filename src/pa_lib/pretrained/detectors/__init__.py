"""Detectors of faces and people."""
