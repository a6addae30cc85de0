"""What `experiments.evaluate` reads, measures and prints."""
