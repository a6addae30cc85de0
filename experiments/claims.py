"""Runs `python -m experiments.study.claims`."""

from experiments.study.claims.__main__ import main

if __name__ == "__main__":
    raise SystemExit(main())
