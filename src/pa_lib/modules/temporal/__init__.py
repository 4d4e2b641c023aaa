"""Adapters that make a backbone see several frames, one file each: TCS and its alternatives."""
