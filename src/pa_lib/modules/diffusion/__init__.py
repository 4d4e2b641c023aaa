"""The diffusion process in training and its samplers at inference."""
