"""Runs `python -m experiments.study.figures`."""

from experiments.study.figures.__main__ import main

if __name__ == "__main__":
    raise SystemExit(main())
