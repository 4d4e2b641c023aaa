"""Privacy attacks that learn from anonymized pictures: the parrot names people, the reversal restores their faces."""
