"""pytorch-metric-learning in a process of its own, spoken to in lines of JSON.

python -m experiments.bench.peer_server

Started by `experiments.bench.peer`; needs torch==2.13.0, pytorch-metric-learning==2.9.0
and numpy, and no JAX. A request is {"op": "setup" | "run" | "peak" | "value", ...}; the
answer is an object, with `unavailable` where memory ran out.
"""

import argparse
import json
import os
import sys
from collections.abc import Callable
from typing import Any

if __name__ == "__main__":
    # --help must not need what is imported below.
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()

import numpy as np
import pytorch_metric_learning
import torch
from pytorch_metric_learning import distances, losses, miners, reducers
from pytorch_metric_learning.utils import loss_and_miner_utils as tuples
from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator
from pytorch_metric_learning.utils.inference import CustomKNN

from experiments.bench import timing

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
MEMORY = 6 * 2**30
COSINE = distances.CosineSimilarity()


def mined(loss: Any, miner: Any) -> Loss:
    """A loss on what a miner picks."""
    return lambda x, y: loss(x, y, miner(x, y))


def listed_triplets(loss: Any) -> Loss:
    """Hands a loss all triplets, listed anchor by anchor at any batch size."""

    def compute(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        matches, differences = tuples.get_matches_and_diffs(y)
        triplets = tuples.get_all_triplets_indices_loop_method(y, matches, differences)
        return loss(x, y, triplets)

    return compute


def normalized(loss: Any) -> Loss:
    """For a loss that normalises only some of the rows."""
    return lambda x, y: loss(torch.nn.functional.normalize(x), y)


def proxy_anchor(proxies: torch.Tensor) -> Loss:
    """The proxies are parameters of the loss."""
    loss = losses.ProxyAnchorLoss(*proxies.shape, margin=0.1, alpha=32)
    loss.proxies = torch.nn.Parameter(proxies)
    return loss


def triplet() -> Any:
    """As the `triplet` cases have it."""
    return losses.TripletMarginLoss(margin=0.3, distance=COSINE)


PEERS: dict[str, Callable[[torch.Tensor], Loss]] = {
    "contrastive": lambda _: losses.ContrastiveLoss(neg_margin=1.3),
    "sup_con": lambda _: losses.SupConLoss(temperature=0.1),
    "nt_xent": lambda _: losses.NTXentLoss(temperature=0.07),
    "multi_similarity": lambda _: losses.MultiSimilarityLoss(),
    "circle": lambda _: losses.CircleLoss(m=0.4, gamma=80),
    "lifted_structure": lambda _: losses.LiftedStructureLoss(),
    "generalized_lifted_structure": lambda _: losses.GeneralizedLiftedStructureLoss(),
    "margin": lambda _: losses.ContrastiveLoss(
        pos_margin=1.0, neg_margin=1.4, reducer=reducers.SumReducer()
    ),
    "batch_hard_triplet": lambda _: mined(
        losses.TripletMarginLoss(margin=0.3), miners.BatchHardMiner()
    ),
    "n_pairs": lambda _: losses.NPairsLoss(),
    "proxy_anchor": proxy_anchor,
    "triplet": lambda _: triplet(),
    "triplet_listed": lambda _: listed_triplets(triplet()),
    "semi_hard": lambda _: mined(
        triplet(),
        miners.TripletMarginMiner(0.3, type_of_triplets="semihard", distance=COSINE),
    ),
    "angular": lambda _: normalized(losses.AngularLoss(alpha=40)),
    "fast_ap": lambda _: losses.FastAPLoss(num_bins=10),
    "smooth_ap": lambda _: losses.SmoothAPLoss(temperature=0.01),
}


class Server:
    """Holds the call that was set up last."""

    def setup(self, request: dict[str, Any]) -> dict[str, Any]:
        """Prepares {"peer", "shape", "seed", "layout"}; `peer` may be 'retrieval'."""
        shape = timing.Shape(**request["shape"])
        seed = request["seed"]
        rows, classes = timing.clusters(shape, seed=seed, layout=request["layout"])
        labels = torch.tensor(classes, dtype=torch.int64)
        if request["peer"] == "retrieval":
            self.call = lambda: self.retrieval(torch.tensor(rows), labels)
            return {}
        x = torch.tensor(rows, requires_grad=True)
        loss = PEERS[request["peer"]](torch.tensor(timing.proxies(shape, seed=seed)))
        weights = list(loss.parameters()) if isinstance(loss, torch.nn.Module) else []
        wanted = [x, *weights]

        def call() -> tuple[float, list[np.ndarray]]:
            value = loss(x, labels)
            gradients = torch.autograd.grad(value, wanted)
            return float(value.detach()), [g.numpy() for g in gradients]

        self.call = call
        return {}

    def retrieval(
        self, rows: torch.Tensor, labels: torch.Tensor
    ) -> tuple[float, list[np.ndarray]]:
        """Recall@1, with MAP@R and R-precision computed beside it."""
        calculator = AccuracyCalculator(
            include=("precision_at_1", "r_precision", "mean_average_precision_at_r"),
            k="max_bin_count",
            knn_func=CustomKNN(COSINE, batch_size=1024),
        )
        found = calculator.get_accuracy(rows, labels)
        return found["precision_at_1"], []

    def value(self, _: dict[str, Any]) -> dict[str, Any]:
        """The value and the gradients."""
        value, gradients = self.call()
        return {"value": value, "gradients": [g.tolist() for g in gradients]}

    def run(self, _: dict[str, Any]) -> dict[str, Any]:
        """Times one call."""
        rep = timing.timed(self.call)
        return {"cpu_s": rep.cpu_s, "wall_s": rep.wall_s}

    def peak(self, _: dict[str, Any]) -> dict[str, Any]:
        """Measures the memory of one call."""
        return {"peak_mb": timing.peak_mb(self.call)}


def answer(server: Server, request: dict[str, Any]) -> dict[str, Any]:
    """What an operation found, or why it found nothing."""
    try:
        return getattr(server, request["op"])(request)
    except (RuntimeError, MemoryError) as error:
        if isinstance(error, MemoryError) or "alloc" in str(error):
            return {"unavailable": "out of memory"}
        return {"error": f"{type(error).__name__}: {error}"}


def main() -> None:
    """Answers until its input ends."""
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints must not mix with the replies
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    except (ImportError, OSError, ValueError):
        print("this system sets no limit to a process's memory", file=sys.stderr)
    timing.keep_memory()
    torch.manual_seed(0)
    server = Server()
    print(json.dumps({"peer": pytorch_metric_learning.__version__}), file=replies)
    replies.flush()
    for line in sys.stdin:
        print(json.dumps(answer(server, json.loads(line))), file=replies)
        replies.flush()


if __name__ == "__main__":
    main()
