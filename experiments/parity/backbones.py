"""Compares backbones with timm's and torchvision's, stage by stage.

python -m experiments.parity.backbones [NAME ...]

The others' outputs are stored (peer_backbones.py and peer_vits.py wrote them); ours are
computed again from the same weights, which come in under the others' names. All of them
take three minutes on two CPU cores.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import nnx

from experiments.parity.peer_backbones import draw, images, sample
from rankjax import models
from rankjax.errors import unknown_name
from rankjax.files import write_atomic
from rankjax.models.weights import use_arrays

ROOT = Path(__file__).parents[2]
STORED = ROOT / "tests" / "models"
RESULTS = ROOT / "experiments" / "results" / "backbones.json"


def stored() -> dict[str, Any]:
    """What the others computed, by network and whose names its weights have."""
    return {
        name: entry
        for file in ("peer_backbones.json", "peer_vits.json")
        for name, entry in json.loads((STORED / file).read_text())["networks"].items()
    }


def weights(entry: dict[str, Any]) -> dict[str, np.ndarray]:
    """The arrays of an entry of `stored`, under the others' names."""
    found = {}
    for line in entry["weights"]:
        name, _, shape = line.partition(" ")
        found[name] = draw(name, tuple(int(n) for n in shape.split("x") if n))
    return found


def network(entry: dict[str, Any], arrays: dict[str, np.ndarray]) -> models.Embedder:
    """Our network with these arrays, in eval mode."""
    size = entry["image_size"]
    size = size if isinstance(size, int) else tuple(size)
    backbone = nnx.eval_shape(
        lambda: models.backbone(
            entry["model"],
            channels=3,
            layers=models.Layers(None, nnx.Rngs(0)),
            image_size=size,
        )
    )
    use_arrays(backbone, arrays, source=entry["code"], scale="imagenet")
    embedder = models.Embedder(
        backbone, embedding_dim=1, normalize=False, rngs=nnx.Rngs(0)
    )
    embedder.eval()
    return embedder


def differences(entry: dict[str, Any]) -> dict[str, float]:
    """The largest difference in each stage, in units of the stage's largest value.

    Raises:
      ValueError: a stage has another shape.
    """
    definition, state = nnx.split(network(entry, weights(entry)))

    @jax.jit
    def forward(state: Any, x: jax.Array) -> dict[str, jax.Array]:
        embedder = nnx.merge(definition, state)
        outputs = dict(embedder.backbone.stages(x))
        return outputs | {"features": embedder.features(x)}

    size = entry["image_size"]
    x = images(size if isinstance(size, int) else tuple(size))
    if entry["model"] == "bn_inception":
        x = x[..., ::-1]  # its weights are turned to red, green, blue when loaded
    ours = forward(state, x)
    found = {}
    for stage, theirs in entry["stages"].items():
        y = np.asarray(ours[stage])
        if list(y.shape) != theirs["shape"]:
            raise ValueError(f"{stage} has shape {y.shape}, not {theirs['shape']}")
        apart = np.abs(np.subtract(sample(stage, y), theirs["values"])).max()
        found[stage] = float(apart / theirs["largest"])
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the table, and stores it if it is whole."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="all if none")
    chosen = parser.parse_args(arguments).names
    entries = {name: entry for name, entry in stored().items() if entry["stages"]}
    table = {}
    for name in chosen:
        if name not in entries:
            known = [repr(each) for each in entries]  # which have commas
            parser.error(str(unknown_name("network", name, known)))
    for name in chosen or entries:
        apart = differences(entries[name])
        worst = max(apart, key=lambda stage: apart[stage])
        table[name] = {
            "stages": len(apart),
            "largest": float(f"{apart[worst]:.2g}"),
            "at": worst,
            "features": float(f"{apart['features']:.2g}"),
        }
        row = table[name]
        print(
            f"{name:36} {row['stages']:3} stages  {row['largest']:.1e} at {worst:14}"
            f"features {row['features']:.1e}",
            flush=True,
        )
    if not chosen:
        write_atomic(RESULTS, json.dumps(table, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
