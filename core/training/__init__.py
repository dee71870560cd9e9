"""Training: batches, the loop, evaluation, checkpoints, sinks, and the run that ties them together."""
