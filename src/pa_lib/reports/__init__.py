"""Records of runs and evaluations, and the pages made of them."""
