"""Noise processes, the solvers that step through them, and the sampler."""
