"""Small honest comparisons: many seeds and settings of a loss trained at once.

python -m experiments.sweep [NAME ...] [--out DIR] [--features FILE.npz]

Without a name, lists the sweeps and the CPU minutes that each takes. What a result file
has already is not trained again, so a sweep that was stopped goes on where it was.
--features runs the losses on embeddings from a file instead of a listed bench.
"""

import argparse
import functools
import sys
from collections.abc import Sequence
from pathlib import Path

from experiments.sweep.images import features
from experiments.sweep.records import RESULTS
from experiments.sweep.studies import ARMS, STUDIES
from experiments.sweep.study import Study, run
from rankjax.errors import RunError, UsageError, unknown_name


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    assert __doc__ is not None
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="or all")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of results")
    parser.add_argument(
        "--features", type=Path, help="an .npz of embeddings and labels"
    )
    options = parser.parse_intermixed_args(arguments)
    try:
        studies = [_named(name) for name in _expanded(options.names)]
        if options.features is not None:
            bench = functools.partial(features, options.features)
            studies.append(Study(f"losses-{options.features.stem}", bench, ARMS, 15))
        for study in studies:
            print(f"{study.name}: about {study.budget:g} CPU minutes", flush=True)
            run(study, options.out, functools.partial(print, flush=True))
    except (UsageError, RunError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if not studies:
        for study in STUDIES.values():
            arms = f"{len(study.arms)} arms, {len(study.seeds)} seeds"
            print(f"{study.name:24} {study.budget:4g} CPU minutes, {arms}")
    return 0


def _expanded(names: Sequence[str]) -> Sequence[str]:
    return list(STUDIES) if list(names) == ["all"] else names


def _named(name: str) -> Study:
    if name not in STUDIES:
        raise unknown_name("sweep", name, [*STUDIES])
    return STUDIES[name]


if __name__ == "__main__":
    sys.exit(main())
