"""Guidance while a clip is sampled, one file each, all behind `AbstractGuidance`."""
