"""Draws figures that explain losses, mining and measures.

python -m experiments.study.figures [NAME ... | all] [--out DIR]

Without a name it lists them. Each figure becomes NAME.svg and NAME.png, transparent and
readable on light and dark pages, and NAME.txt, its caption.
"""

import argparse
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path

from experiments.study.figures import FIGURES, write
from rankjax.errors import RunError, UsageError


def listing() -> str:
    """Every figure's name, title and caption."""
    parts = []
    for entry in FIGURES.values():
        text = f"{entry.title}. {entry.caption}"
        parts.append(
            f"{entry.name}\n{textwrap.indent(textwrap.fill(text, 84), '    ')}"
        )
    return "\n\n".join(parts)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="or 'all'")
    parser.add_argument(
        "--out", type=Path, default=Path("runs/figures"), help="%(default)s by default"
    )
    options = parser.parse_intermixed_args(arguments)
    if not options.names:
        print(listing())
    status = 0
    for name in FIGURES if options.names == ["all"] else options.names:
        try:
            for file in write(name, options.out):
                print(file)
        except (RunError, OSError) as error:
            print(f"error: {name}: {error}", file=sys.stderr)
            status = status or 1
        except UsageError as error:
            print(f"error: {error}", file=sys.stderr)
            status = 2
    return status


if __name__ == "__main__":
    sys.exit(main())
