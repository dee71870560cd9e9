"""The Transformer: mathematics in `functional`, parameters in `layers` and `attention`, wiring in `transformer`."""
