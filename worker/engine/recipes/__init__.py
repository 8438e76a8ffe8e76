"""Recipes of fine-tuning, one file each: pure functions on modules, parameters and tensors."""
