"""Measuring what was made: videos, clips, attacks, comparisons."""
