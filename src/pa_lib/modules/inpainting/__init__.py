"""Latents inside a mask from noise: what every latent inpainting system has."""
