r"""Writes what the authors' code of Revisited Oxford and Paris measures, for a test.

pip install numpy
python experiments/parity/peer_revisited.py EVALUATE.py \
    tests/metrics/peer_revisited.json

EVALUATE.py is python/evaluate.py of https://github.com/filipradenovic/revisitop. It
needs neither JAX nor rankjax, and no test needs it. No scores are equal.
"""

import argparse
import json
import runpy
from pathlib import Path

import numpy as np

KAPPAS = (1, 5, 10)


def main(evaluate: Path, path: Path) -> None:
    """Writes the file."""
    np.in1d = np.isin  # type: ignore[attr-defined]  # new versions have no other
    compute_map = runpy.run_path(str(evaluate))["compute_map"]
    rng = np.random.default_rng(7)
    queries, gallery = 6, 40
    scores = rng.permutation(queries * gallery).reshape(queries, gallery) / 1000
    lists = []
    for query, sizes in enumerate([(3, 4, 5), (1, 0, 2), (0, 2, 0), (9, 9, 9)] * 2):
        if query < queries:
            rows = rng.permutation(gallery)[: sum(sizes)].tolist()
            a, b = sizes[0], sizes[0] + sizes[1]
            lists.append({"easy": rows[:a], "hard": rows[a:b], "junk": rows[b:]})
    found = {}
    for name, right, neither in (
        ("easy", ("easy",), ("junk", "hard")),
        ("medium", ("easy", "hard"), ("junk",)),
        ("hard", ("hard",), ("junk", "easy")),
    ):
        truth = [
            {
                key: [row for side in sides for row in each[side]]
                for key, sides in (("ok", right), ("junk", neither))
            }
            for each in lists
        ]
        ranks = np.argsort(-scores, axis=1).T
        mean, _, precision, _ = compute_map(ranks, truth, list(KAPPAS))
        found[name] = {"map": float(mean), "precision": precision.tolist()}
    stored = {"scores": scores.tolist(), "lists": lists, "found": found}
    path.write_text(json.dumps(stored) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("evaluate", type=Path, metavar="EVALUATE.py")
    parser.add_argument("path", type=Path, metavar="FILE", help="to write")
    options = parser.parse_args()
    main(options.evaluate, options.path)
