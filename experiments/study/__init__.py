"""The survey's claims: sweeps that train, statistics and verdicts, and figures."""
