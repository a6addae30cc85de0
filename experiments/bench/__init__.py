"""Benchmarks: what a loss, a search, a step and the input cost, against bare work.

Commands, such as `python -m experiments.bench.losses`: `losses`, `retrieval`, `step`,
`input`, `caching` and `scaling`. Every one takes `--json FILE`. `figures` draws what
they wrote.
"""
