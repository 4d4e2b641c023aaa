"""How the doubles are made: see tools/pack_doubles.py."""
