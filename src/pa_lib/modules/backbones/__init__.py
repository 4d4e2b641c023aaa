"""Denoisers, one file each, all behind `AbstractBackbone`."""
