"""Writes what pytorch-metric-learning measures, for tests to compare ours with.

pip install torch==2.13.0 pytorch-metric-learning==2.9.0 numpy
python experiments/parity/peer_metrics.py tests/metrics/peer_metrics.json

It needs neither JAX nor rankjax, and no test needs it. Of its `AccuracyCalculator` the
labels stay below 2^24, which it casts to float32, and no similarities are equal.
"""

import argparse
import json
from pathlib import Path

if __name__ == "__main__":
    # --help must not need what is imported below.
    _parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    _parser.add_argument("path", metavar="FILE", help="to write")
    _OPTIONS = _parser.parse_args()

import numpy as np
import torch
from pytorch_metric_learning.distances import CosineSimilarity
from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator
from pytorch_metric_learning.utils.inference import CustomKNN

METRICS = (
    "precision_at_1",
    "mean_average_precision_at_r",
    "mean_average_precision",
    "mean_reciprocal_rank",
    "r_precision",
)


def main(path: Path) -> None:
    """Writes the file."""
    rng = np.random.default_rng(5)
    cases = {}
    for name, sizes in {"even": [4] * 6, "uneven": [1, 2, 2, 3, 5, 8]}.items():
        labels = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
        embeddings = rng.normal(size=(len(labels), 5)).round(4)
        calculator = AccuracyCalculator(
            include=METRICS,
            k=len(labels) - 1,
            knn_func=CustomKNN(CosineSimilarity()),
            device=torch.device("cpu"),
        )
        found = calculator.get_accuracy(torch.tensor(embeddings), torch.tensor(labels))
        cases[name] = {
            "embeddings": embeddings.tolist(),
            "labels": labels.tolist(),
            "metrics": {metric: float(found[metric]) for metric in METRICS},
        }
    path.write_text(json.dumps(cases) + "\n")


if __name__ == "__main__":
    main(Path(_OPTIONS.path))
