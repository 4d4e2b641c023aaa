"""Anonymization systems, one file each, all behind `AbstractAnonymizer`."""
