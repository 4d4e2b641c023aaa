"""Pixels to latents and back, one file each, all behind `AbstractAutoencoder`."""
