"""Privacy attacks that learn from anonymized pictures: the parrot identifies people, the reversal restores faces."""
