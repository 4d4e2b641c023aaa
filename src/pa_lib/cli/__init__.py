"""The commands. Hydra and OmegaConf are used here and nowhere below."""
