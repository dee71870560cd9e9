"""Experiments: what produces `results/`."""
