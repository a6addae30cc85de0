"""One training run of rankjax, or of PyTorch with pytorch-metric-learning.

python -m experiments.bench.peer_arms LIBRARY JOB

Started by `experiments.bench.peer_training`, each in an environment of its own. JOB is
a folder with job.json, batches.npz and test.npz; the run adds embeddings.npy and
found.json. The loop, its clock and its data are the same code for both.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from experiments.bench import timing

LOG_EVERY = 20
"""Steps between readings of the loss, and of the clock; the first so many compile."""
_BATCH = 512

Job = dict[str, Any]


class Arm(NamedTuple):
    """A library's part of a run.

    Attributes:
      step: (number, images, labels) -> the loss, which need not be there yet.
      embed: uint8 [n, height, width, channels] -> [n, dim], in eval mode.
      packages: whose versions are kept.
    """

    step: Callable[[int, np.ndarray, np.ndarray], Any]
    embed: Callable[[np.ndarray], np.ndarray]
    packages: tuple[str, ...]


def rankjax_arm(job: Job) -> Arm:
    """What `experiments.train` runs."""
    import jax

    from experiments.compiled import keep_compiled
    from experiments.config import Config
    from experiments.images import Held
    from experiments.training.start import build_step, start
    from rankjax.data import Split
    from rankjax.parallel import axis_of, replicate
    from rankjax.train import make_embed

    keep_compiled(Path(job["compiled"]))
    settings = {
        key: tuple(value) if isinstance(value, list) else value
        for key, value in job["settings"].items()
    }
    config = Config().replace(**settings)
    devices = jax.devices()[:1]
    classes = tuple(map(str, range(job["classes"])))
    shape = tuple(job["shape"])
    split = Split(Held(np.zeros((1, *shape), np.uint8)), np.zeros(1, int), classes)
    begun = start(config, split, axis_name=axis_of(config.devices.wrapper))
    step = build_step(config, begun.definition, begun.optimizer, devices)
    embed = make_embed(begun.definition, devices=devices, batch_size=_BATCH)
    state = replicate(begun.state, devices)

    def one(number: int, images: np.ndarray, labels: np.ndarray) -> Any:
        nonlocal state
        state, metrics = step(state, {"image": images, "label": labels})
        return metrics["loss"]

    packages = ("rankjax", "jax", "flax", "optax")
    return Arm(one, lambda images: embed(state, Held(images)), packages)


def torch_arm(job: Job) -> Arm:
    """The same network and optimiser as a user of PyTorch writes them."""
    import torch
    from pytorch_metric_learning import distances, losses, miners
    from torch import nn

    torch.manual_seed(job["settings"]["seed"])
    height, width, channels = job["shape"]
    assert (height, width) == (32, 32), "the network flattens at 4 x 4"
    dim, classes = job["dim"], job["classes"]

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            widths, layers = (channels, 32, 64, 128, 256), []
            for i, stride in enumerate((2, 2, 2, 1)):
                conv = nn.Conv2d(
                    widths[i], widths[i + 1], 3, stride=stride, padding=1, bias=False
                )
                nn.init.kaiming_normal_(conv.weight, mode="fan_out")
                layers += [conv, nn.BatchNorm2d(widths[i + 1]), nn.ReLU()]
            self.backbone = nn.Sequential(*layers, nn.Flatten())
            self.head = nn.Linear(16 * 256, dim)
            # 0.02 before values beyond two deviations are drawn again.
            nn.init.trunc_normal_(self.head.weight, std=0.02, a=-0.04, b=0.04)
            nn.init.zeros_(self.head.bias)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            x = images.permute(0, 3, 1, 2).float() / 127.5 - 1
            return nn.functional.normalize(self.head(self.backbone(x)))

    cosine = distances.CosineSimilarity()
    loss: Any = {
        "nt_xent": lambda: losses.NTXentLoss(temperature=1 / 16),
        "semi_hard": lambda: losses.TripletMarginLoss(margin=0.3, distance=cosine),
        "multi_similarity": losses.MultiSimilarityLoss,
        "proxy_anchor": lambda: losses.ProxyAnchorLoss(
            classes, dim, margin=0.1, alpha=32
        ),
    }[job["loss"]]()
    miner = miners.TripletMarginMiner(0.3, type_of_triplets="semihard", distance=cosine)
    network = Network()
    groups = [{"params": list(network.parameters()), "times": 1.0}]
    if job["loss"] == "proxy_anchor":
        with torch.no_grad():
            loss.proxies.normal_(std=dim**-0.5)
        times = job["settings"]["proxy_learning_rate"]
        groups.append({"params": [loss.proxies], "times": times})
    optimizer = torch.optim.AdamW(groups, weight_decay=job["weight_decay"])
    rates = job["rates"]

    def one(number: int, images: np.ndarray, labels: np.ndarray) -> Any:
        for group in optimizer.param_groups:
            group["lr"] = rates[number] * group["times"]
        y = torch.from_numpy(labels.astype(np.int64))
        x = network(torch.from_numpy(images))
        value = loss(x, y, miner(x, y)) if job["loss"] == "semi_hard" else loss(x, y)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        return value.detach()

    def embed(images: np.ndarray) -> np.ndarray:
        network.eval()
        with torch.no_grad():
            parts = torch.from_numpy(images).split(_BATCH)
            return np.concatenate([network(part).numpy() for part in parts])

    return Arm(one, embed, ("torch", "pytorch-metric-learning"))


ARMS = {"rankjax": rankjax_arm, "pytorch": torch_arm}


def run(library: str, place: Path, steps: int | None) -> None:
    """Trains, embeds the test images, and writes what was found."""
    job = json.loads((place / "job.json").read_text())
    with np.load(place / "batches.npz") as batches:
        images, labels = batches["images"], batches["labels"]
    images = images[:steps]
    arm = ARMS[library](job)
    marks = []
    found: dict[str, Any] = {}
    for number in range(len(images)):
        value = arm.step(number, images[number], labels[number])
        if number == 0 or (number + 1) % LOG_EVERY == 0:
            if not np.isfinite(float(value)):
                raise FloatingPointError(f"the loss is {value} at step {number}")
            if number == 0:
                found["first_step_cpu_s"] = time.process_time()
            else:
                marks.append((time.process_time(), time.perf_counter()))
    if len(marks) > 1:
        # The least: a neighbour on the machine makes no step faster.
        cpu, wall = (np.diff(marks, axis=0).min(0) / LOG_EVERY).tolist()
        found |= {"step_cpu_ms": 1000 * cpu, "images_per_s": labels.shape[1] / wall}
        with np.load(place / "test.npz") as test:
            np.save(place / "embeddings.npy", arm.embed(test["images"]))
    found["total_cpu_s"] = time.process_time()
    found["peak_mb"] = timing.status_mb("VmHWM") if sys.platform == "linux" else None
    found["versions"] = timing.versions("numpy", *arm.packages)
    (place / "found.json").write_text(json.dumps(found))


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("library", choices=ARMS)
    parser.add_argument("job", type=Path)
    parser.add_argument("--steps", type=int, help="only the first so many")
    options = parser.parse_args()
    run(options.library, options.job, options.steps)


if __name__ == "__main__":
    main()
