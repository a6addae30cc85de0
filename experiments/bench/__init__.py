"""Benchmarks: what a loss, a search and the input cost, against bare work.

Commands, such as `python -m experiments.bench.losses`: every module that its docstring
calls so. Every one takes `--json FILE`. `figures` draws what they wrote.
"""
