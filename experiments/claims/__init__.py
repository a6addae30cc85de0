"""The survey's claims as experiments: predictions, statistics and verdicts."""
