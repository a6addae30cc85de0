"""Benchmarks: what a loss, a search, a step and the input cost, against bare work.

Each module is a command: `python -m experiments.bench.losses`, `.retrieval`, `.step`,
`.input`. Every one takes `--quick` and `--json FILE`.
"""
