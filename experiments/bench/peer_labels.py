"""Cleanlab's quality of labels, in an environment of its own.

python peer_labels.py GIVEN.npz QUALITY.npz

As its tutorials do with embeddings: the probabilities of a classifier that did not see
the row, of five folds, and `get_label_quality_scores` of them. The classifier is a
logistic regression, and one of ten neighbours. Of several hundred classes the former
takes many minutes, and is left out.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("given", type=Path, help="embeddings and labels")
    parser.add_argument("quality", type=Path, help="of each label, low is suspect")
    options = parser.parse_args(arguments)

    import numpy as np
    from cleanlab.rank import get_label_quality_scores
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import cross_val_predict
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    given = np.load(options.given)
    models = {
        "ten neighbours": KNeighborsClassifier(
            10, weights="distance", metric="cosine", algorithm="brute"
        )
    }
    if len(np.unique(given["labels"])) < 200:
        models["logistic"] = make_pipeline(StandardScaler(), LogisticRegression())
    found = {}
    for name, model in models.items():
        probabilities = cross_val_predict(
            model, given["embeddings"], given["labels"], cv=5, method="predict_proba"
        )
        found[name] = get_label_quality_scores(given["labels"], probabilities)
    np.savez(options.quality, **found)
    return 0


if __name__ == "__main__":
    sys.exit(main())
