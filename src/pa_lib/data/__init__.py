"""Data sets and LightningDataModules, one file per family. Nothing heavy is imported until a name is used."""
