"""Writes what sentence-transformers computes, for tests to compare ours with.

pip install torch==2.14.1 sentence-transformers==6.2.0 numpy
python experiments/parity/peer_sentences.py tests/losses/peer_sentences.json

It needs neither JAX nor rankjax, and no test needs it. A model hands on the rows that
it is given, in double precision, and a guide other rows; what the code of an entry does
not set is the package's default.
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
import sentence_transformers
import tokenizers
import torch
import transformers
from sentence_transformers.sentence_transformer import losses

ROWS, COLUMNS, DIM, GUIDE_DIM = 6, 4, 8, 5
RNG = np.random.default_rng(20)
EMBEDDINGS = RNG.normal(size=(COLUMNS, ROWS, DIM)).round(4)
GUIDE = RNG.normal(size=(COLUMNS, ROWS, GUIDE_DIM)).round(4)
GUIDE[1] += GUIDE[0].round(4)  # positives are nearer than chance
SCORES = [0.2, 0.9, 0.5, 0.2, 1.0, 0.0]

_BOTH = "directions=('query_to_doc', 'doc_to_query'), partition_mode='per_direction'"
_ALL = "('query_to_doc', 'query_to_query', 'doc_to_query', 'doc_to_doc')"
_ALONE = "contrast_anchors=False, contrast_positives=False"

# Columns (anchors, positives, and negatives), labels, loss.
LOSSES = {
    "ranking": (2, None, "losses.MultipleNegativesRankingLoss(model)"),
    "ranking, negatives": (4, None, "losses.MultipleNegativesRankingLoss(model)"),
    "ranking, both directions": (
        4,
        None,
        f"losses.MultipleNegativesRankingLoss(model, scale=5.0, {_BOTH})",
    ),
    "ranking, hardness": (
        4,
        None,
        "losses.MultipleNegativesRankingLoss(model, hardness_mode='all_negatives', "
        "hardness_strength=5.0)",
    ),
    "ranking, all directions": (
        2,
        None,
        f"losses.MultipleNegativesRankingLoss(model, directions={_ALL})",
    ),
    "matryoshka": (
        3,
        None,
        "losses.MatryoshkaLoss(model, losses.MultipleNegativesRankingLoss(model), "
        "[3, 5, 8], [2.0, 1.0, 0.5])",
    ),
    "cosent": (2, "scores", "losses.CoSENTLoss(model)"),
    "angle": (2, "scores", "losses.AnglELoss(model)"),
    "margin mse": (4, "guide", "losses.MarginMSELoss(model)"),
    "gist": (
        3,
        None,
        f"losses.GISTEmbedLoss(model, guide, temperature=0.1, {_ALONE})",
    ),
    "gist, absolute margin": (
        3,
        None,
        f"losses.GISTEmbedLoss(model, guide, temperature=0.1, margin=0.2, {_ALONE})",
    ),
    "gist, relative margin": (
        3,
        None,
        "losses.GISTEmbedLoss(model, guide, temperature=0.1, margin=0.2, "
        f"margin_strategy='relative', {_ALONE})",
    ),
    "gist, its default": (3, None, "losses.GISTEmbedLoss(model, guide)"),
}


class Rows(torch.nn.Module):
    """A model that finds what it is to return among what it is given."""

    max_seq_length = 1
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizers.Tokenizer(
            tokenizers.models.WordLevel({"a": 0}, unk_token="a")
        )
    )

    def __init__(self, name: str) -> None:
        """Takes the name under which it is given rows."""
        super().__init__()
        self.name = name

    def forward(self, features: dict) -> dict:
        """Returns the rows."""
        return {**features, "sentence_embedding": features[self.name]}

    def get_embedding_dimension(self) -> int:
        """Returns that of the rows to train."""
        return DIM


def cosines(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Of rows with equal numbers."""
    norms = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    return (one * other).sum(1) / norms


def evaluate(columns: int, labels: str | None, code: str) -> dict:
    """The value of a loss and its gradients by all rows."""
    model, guide = Rows("rows"), Rows("guide")
    loss = eval(code, {"losses": losses, "model": model, "guide": guide})
    x = torch.tensor(EMBEDDINGS[:columns], requires_grad=True)
    given = [
        {"rows": rows, "guide": torch.tensor(other)}
        for rows, other in zip(x, GUIDE[:columns], strict=True)
    ]
    target = None
    if labels == "scores":
        target = torch.tensor(SCORES, dtype=torch.float64)
    if labels == "guide":
        target = np.stack([cosines(GUIDE[0], g) for g in GUIDE[1:columns]], 1)
        target = torch.tensor(target)
    value = loss(given, target)
    value.backward()
    return {
        "columns": columns,
        "loss": code,
        "value": float(value.detach()),
        "gradient": [
            [[float(f"{v:.11g}") for v in row] for row in rows]
            for rows in x.grad.tolist()
        ],
    }


def main(path: str) -> None:
    """Writes the file."""
    data = {
        "source": {
            "package": "sentence-transformers",
            "version": sentence_transformers.__version__,
            "torch": torch.__version__,
            "by": "experiments/parity/peer_sentences.py",
        },
        "embeddings": EMBEDDINGS.tolist(),
        "guide": GUIDE.tolist(),
        "scores": SCORES,
        "losses": {name: evaluate(*entry) for name, entry in LOSSES.items()},
    }
    text = json.dumps(data).replace('}, "', '},\n"')  # a line per entry
    Path(path).write_text(text + "\n")


if __name__ == "__main__":
    main(_OPTIONS.path)
