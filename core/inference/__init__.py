"""Turning a trained model's logits into text."""
