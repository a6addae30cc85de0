"""Writes what pytorch-metric-learning computes, for tests to compare ours with.

pip install torch==2.13.0 pytorch-metric-learning==2.9.0 numpy
python experiments/parity/peer_vectors.py tests/losses/peer_vectors.json

It needs neither JAX nor rankjax, and no test needs it. Double precision; what the code
of an entry does not set is the package's default, reducers among them.
"""

import argparse
import json
import sys
from pathlib import Path

if __name__ == "__main__":
    # --help must not need what is imported below.
    _parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    _parser.add_argument("path", metavar="FILE", help="to write")
    _OPTIONS = _parser.parse_args()

import numpy as np
import pytorch_metric_learning
import torch
from pytorch_metric_learning import distances, losses, miners, regularizers

NAMES = {
    "distances": distances,
    "losses": losses,
    "miners": miners,
    "regularizers": regularizers,
}
LABELS = {
    "triples": [2, 0, 1, 3, 0, 2, 1, 1, 3, 0, 2, 3],
    "pairs": [4, 0, 1, 2, 0, 5, 4, 3, 1, 2, 3, 5],
    "uneven": [0, 1, 0, 2, 0, 3, 1, 0, 2, 0, 1, 0],
}
CLASSES, PER_CLASS, DIM = 7, 3, 6
RNG = np.random.default_rng(20)
EMBEDDINGS = RNG.normal(size=(12, DIM)).round(4)
PROXIES = RNG.normal(size=(CLASSES * PER_CLASS, DIM)).round(4)
ONE_EACH = PROXIES[::PER_CLASS]

RAW = "distance=distances.LpDistance(normalize_embeddings=False)"
SQUARED = "distance=distances.LpDistance(power=2)"
RAW_SQUARED = "distance=distances.LpDistance(normalize_embeddings=False, power=2)"
RAW_DOT = "distance=distances.DotProductSimilarity(normalize_embeddings=False)"
PER_CLASS_LOSS = f"num_classes={CLASSES}, embedding_size={DIM}"

# Name, labels, loss, miner or None. "unit" takes embeddings of length 1.
LOSSES = {
    "contrastive, raw": (
        "triples",
        f"losses.ContrastiveLoss(pos_margin=0.5, neg_margin=4.0, {RAW})",
        None,
    ),
    "contrastive": ("uneven", "losses.ContrastiveLoss(neg_margin=1.3)", None),
    "contrastive, cosine": (
        "uneven",
        "losses.ContrastiveLoss(pos_margin=0.8, neg_margin=0.2, "
        "distance=distances.CosineSimilarity())",
        None,
    ),
    "triplet, raw": (
        "triples",
        f"losses.TripletMarginLoss(margin=0.5, {RAW_SQUARED})",
        None,
    ),
    "triplet": ("uneven", f"losses.TripletMarginLoss(margin=0.2, {SQUARED})", None),
    "triplet, swap": (
        "uneven",
        "losses.TripletMarginLoss(margin=0.2, swap=True)",
        None,
    ),
    "triplet, soft": (
        "uneven",
        "losses.TripletMarginLoss(margin=0, smooth_loss=True)",
        None,
    ),
    "triplet, semi-hard": (
        "triples",
        f"losses.TripletMarginLoss(margin=2.0, {RAW_SQUARED})",
        f"miners.TripletMarginMiner(margin=2.0, type_of_triplets='semihard', "
        f"{RAW_SQUARED})",
    ),
    "batch-hard triplet": (
        "uneven",
        "losses.TripletMarginLoss(margin=0.3)",
        "miners.BatchHardMiner()",
    ),
    "batch-hard triplet, soft": (
        "triples",
        f"losses.TripletMarginLoss(margin=0, smooth_loss=True, {RAW})",
        f"miners.BatchHardMiner({RAW})",
    ),
    "triplet, angular mining": (
        "uneven",
        "losses.TripletMarginLoss(margin=0.3)",
        "miners.AngularMiner(angle=40)",
    ),
    "n-pairs, raw": ("pairs", f"losses.NPairsLoss({RAW_DOT})", None),
    "n-pairs, cosine": ("pairs", "losses.NPairsLoss()", None),
    "angular": ("uneven", "losses.AngularLoss(alpha=40)", None),
    "snr contrastive": (
        "uneven",
        "losses.SignalToNoiseRatioContrastiveLoss(pos_margin=0.1, neg_margin=3.0)",
        None,
    ),
    "threshold-consistent margin": (
        "uneven",
        "losses.ThresholdConsistentMarginLoss(margin_plus=0.6, margin_minus=0.1)",
        None,
    ),
    "intra-pair variance": ("uneven", "losses.IntraPairVarianceLoss()", None),
    "tuplet margin": ("uneven", "losses.TupletMarginLoss(margin=10, scale=8)", None),
    "lifted structure, raw": (
        "triples",
        f"losses.LiftedStructureLoss({RAW})",
        None,
    ),
    "lifted structure": ("uneven", "losses.LiftedStructureLoss()", None),
    "generalized lifted structure": (
        "triples",
        "losses.GeneralizedLiftedStructureLoss()",
        None,
    ),
    "multi-similarity": (
        "uneven",
        "losses.MultiSimilarityLoss(alpha=2, beta=10, base=0.5)",
        None,
    ),
    "multi-similarity, mined": (
        "uneven",
        "losses.MultiSimilarityLoss(alpha=2, beta=10, base=0.5)",
        "miners.MultiSimilarityMiner(epsilon=0.1)",
    ),
    "circle": ("uneven", "losses.CircleLoss(m=0.4, gamma=8)", None),
    "nt-xent": ("uneven", "losses.NTXentLoss(temperature=0.2)", None),
    "sup-con": ("uneven", "losses.SupConLoss(temperature=0.2)", None),
    "nca": ("uneven", "losses.NCALoss(softmax_scale=2)", None),
    "fast-ap": ("uneven", "losses.FastAPLoss(num_bins=10)", None),
    "histogram": ("uneven", "losses.HistogramLoss(n_bins=100)", None),
    "ranked list": (
        "uneven",
        "losses.RankedListLoss(margin=0.4, Tn=3, Tp=1, alpha=1.2, imbalance=0.5)",
        None,
    ),
    **{
        f"pnp {variant}": (
            "triples",
            f"losses.PNPLoss(b=2, alpha=1, anneal=0.1, variant='{variant}')",
            None,
        )
        for variant in ("Ds", "Dq", "Iu", "Ib", "O")
    },
    "dynamic soft margin": (
        "pairs",
        "losses.DynamicSoftMarginLoss(num_bins=10, momentum=1.0)",
        None,
    ),
    "proxy-nca": (
        "uneven",
        f"losses.ProxyNCALoss({PER_CLASS_LOSS}, softmax_scale=3)",
        None,
    ),
    "proxy-anchor": (
        "uneven",
        f"losses.ProxyAnchorLoss({PER_CLASS_LOSS}, margin=0.1, alpha=8)",
        None,
    ),
    "soft-triple": (
        "uneven",
        f"losses.SoftTripleLoss({PER_CLASS_LOSS}, centers_per_class={PER_CLASS})",
        None,
    ),
    "normalized softmax": (
        "uneven",
        f"losses.NormalizedSoftmaxLoss({PER_CLASS_LOSS}, temperature=0.2)",
        None,
    ),
    "cos-face": (
        "uneven",
        f"losses.CosFaceLoss({PER_CLASS_LOSS}, margin=0.35, scale=8)",
        None,
    ),
    "arc-face": (
        "uneven",
        f"losses.ArcFaceLoss({PER_CLASS_LOSS}, margin=28.6, scale=8)",
        None,
    ),
    "sub-center arc-face": (
        "uneven",
        f"losses.SubCenterArcFaceLoss({PER_CLASS_LOSS}, margin=28.6, scale=8, "
        f"sub_centers={PER_CLASS})",
        None,
    ),
    "sphere-face": (
        "uneven",
        f"losses.SphereFaceLoss({PER_CLASS_LOSS}, margin=4, scale=1)",
        None,
    ),
    "large-margin softmax": (
        "uneven",
        f"losses.LargeMarginSoftmaxLoss({PER_CLASS_LOSS}, margin=4, scale=1)",
        None,
    ),
    "p2s-grad": (
        "uneven",
        f"losses.P2SGradLoss(descriptors_dim={DIM}, num_classes={CLASSES})",
        None,
    ),
    "vicreg": ("views", "losses.VICRegLoss()", None),
    # Known to differ from its paper; see the tests for what is compared.
    "margin": ("uneven", "losses.MarginLoss(margin=0.2, beta=1.2)", None),
    "smooth-ap": ("triples", "losses.SmoothAPLoss(temperature=0.1)", None),
    "instance": ("uneven", "losses.InstanceLoss(gamma=8)", None),
}
REGULARIZERS = {
    "norm": ("raw", "regularizers.LpRegularizer()"),
    "squared_norm": ("raw", "regularizers.LpRegularizer(power=2)"),
    "center_invariant": ("raw", "regularizers.CenterInvariantRegularizer()"),
    "zero_mean": ("raw", "regularizers.ZeroMeanRegularizer()"),
    "regular_face": ("proxies", "regularizers.RegularFaceRegularizer()"),
    "sparse_centers": (
        "proxies",
        f"regularizers.SparseCentersRegularizer(num_classes={CLASSES}, "
        f"centers_per_class={PER_CLASS})",
    ),
}
MINERS = {
    "hardest": "miners.BatchHardMiner()",
    "multi_similarity": "miners.MultiSimilarityMiner(epsilon=0.1)",
    "thresholds": "miners.PairMarginMiner(pos_margin=1.1, neg_margin=1.3)",
    "hard_aware_cascade": "miners.HDCMiner(filter_percentage=0.5)",
    "easy_positive": (
        "miners.BatchEasyHardMiner(pos_strategy='easy', neg_strategy='all')"
    ),
    "easy_positive, semi-hard negative": (
        "miners.BatchEasyHardMiner(pos_strategy='easy', neg_strategy='semihard')"
    ),
    "all_negatives": "miners.TripletMarginMiner(margin=10, type_of_triplets='all')",
    "semi_hard": "miners.TripletMarginMiner(margin=0.3, type_of_triplets='semihard')",
    "hard": "miners.TripletMarginMiner(margin=0.3, type_of_triplets='hard')",
    "easy": "miners.TripletMarginMiner(margin=0.3, type_of_triplets='easy')",
    "angular": "miners.AngularMiner(angle=40)",
}


def build(code: str):
    """The object that the code makes."""
    return eval(code, NAMES)


def set_weights(loss, code: str) -> None:
    """Gives a loss our rows per class, several if it has several."""
    rows = ONE_EACH
    if "sub_centers" in code or "centers_per_class" in code:
        rows = PROXIES
    for name in ("W", "proxies", "fc", "weight"):
        weight = getattr(loss, name, None)
        if isinstance(weight, torch.nn.Parameter):
            value = rows if tuple(weight.shape) == rows.shape else rows.T
            weight.data = torch.tensor(value.copy(), dtype=torch.float64)


def numbers(array: torch.Tensor) -> list:
    """Rounded, to keep the file small."""
    return [[float(f"{v:.11g}") for v in row] for row in array.tolist()]


def evaluate(labels: str, code: str, miner: str | None) -> dict:
    """The value of a loss and its gradients."""
    loss = build(code).double()
    set_weights(loss, code)
    x = torch.tensor(EMBEDDINGS, requires_grad=True)
    if labels == "views":
        value = loss(x[0::2], ref_emb=x[1::2])
        y = "pairs in turn"
    else:
        y = labels
        target = torch.tensor(LABELS[labels])
        mined = build(miner)(x, target) if miner else None
        # Angular normalises anchors and positives, but not negatives.
        rows = torch.nn.functional.normalize(x) if "AngularLoss" in code else x
        value = loss(rows, target) if mined is None else loss(rows, target, mined)
    value.backward()
    entry = {
        "labels": y,
        "loss": code,
        "miner": miner,
        "value": float(value.detach()),
        "gradient": numbers(x.grad),
    }
    return entry


def penalty(rows: str, code: str) -> dict:
    """The value of a regulariser and its gradient."""
    x = torch.tensor(
        {"raw": EMBEDDINGS, "proxies": PROXIES}[rows],
        requires_grad=True,
    )
    value = build(code)(x)
    value.backward()
    return {
        "rows": rows,
        "code": code,
        "value": float(value.detach()),
        "gradient": numbers(x.grad),
    }


def mine(code: str) -> dict:
    """The pairs or triplets that a miner picks, as lists of row numbers."""
    picked = build(code)(torch.tensor(EMBEDDINGS), torch.tensor(LABELS["uneven"]))
    rows = [indices.tolist() for indices in picked]
    if len(rows) == 3:
        return {"code": code, "triplets": sorted(zip(*rows, strict=True))}
    positive, negative = (sorted(zip(*rows[i : i + 2], strict=True)) for i in (0, 2))
    return {"code": code, "positive": positive, "negative": negative}


def main(path: str) -> None:
    """Writes the file."""
    found = {}
    for name, entry in LOSSES.items():
        try:
            found[name] = evaluate(*entry)
        except Exception as error:
            print(f"{name}: {type(error).__name__}: {error}", file=sys.stderr)
    data = {
        "source": {
            "package": "pytorch-metric-learning",
            "version": pytorch_metric_learning.__version__,
            "torch": torch.__version__,
            "by": "experiments/parity/peer_vectors.py",
        },
        "labels": LABELS,
        "embeddings": EMBEDDINGS.tolist(),
        "proxies": PROXIES.tolist(),
        "per_class": PER_CLASS,
        "losses": found,
        "regularizers": {n: penalty(*e) for n, e in REGULARIZERS.items()},
        "miners": {name: mine(code) for name, code in MINERS.items()},
    }
    text = json.dumps(data).replace('}, "', '},\n"')  # a line per entry
    Path(path).write_text(text + "\n")


if __name__ == "__main__":
    torch.manual_seed(0)
    main(_OPTIONS.path)
