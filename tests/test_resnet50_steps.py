"""One training step of ResNet-50 on eight devices, with a loss of every family."""

import jax
import numpy as np
import optax
import pytest
from flax import nnx

from rankjax import models
from rankjax.losses import LOSSES
from rankjax.objective import objective
from rankjax.parallel import AXIS, data_parallel, replicate
from rankjax.train import create_state, make_step

ROWS, DIM, SIZE = 16, 8, 224
FAMILIES = {
    "pairs": "contrastive",
    "triplets": "triplet",
    "N-pairs": "n_pairs",
    "angular": "angular",
    "lifted": "lifted_structure",
    "softmax": "sup_con",
    "weighted pairs": "multi_similarity",
    "ranks": "smooth_ap",
    "histograms": "fast_ap",
    "proxies": "proxy_anchor",
    "classification": "arc_face",
    "features": "vic_reg",
}


def moved(loss: str) -> float:
    """How far a step of SGD moves the first kernel, by its largest change."""
    rngs = nnx.Rngs(0)
    network: nnx.Module = models.build(
        "resnet50",
        channels=3,
        embedding_dim=DIM,
        normalize=True,
        layers=models.Layers(AXIS, rngs),
    )
    first = np.asarray(network.backbone.conv1.kernel[...])
    if loss in ("proxy_anchor", "arc_face"):
        proxies = models.Proxies(ROWS // 2, DIM, rngs=rngs)
        network = models.WithLoss(network, proxies=proxies)
    optimizer = optax.sgd(0.01)
    definition, state = create_state(network, optimizer)
    compute = objective(
        LOSSES[loss], axis_name=AXIS, replicated_references=True, has_aux=True
    )
    step = data_parallel(
        make_step(definition, compute, optimizer, axis_name=AXIS),
        devices=jax.devices(),
        wrapper="pmap",
    )
    shape = (ROWS, SIZE, SIZE, 3)
    batch = {
        "image": np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8),
        "label": np.repeat(np.arange(ROWS // 2, dtype=np.int32), 2),
    }
    state, metrics = step(replicate(state, jax.devices()), batch)
    assert np.isfinite(float(metrics["loss"]))
    params = state.params.get("network", state.params)
    after = np.asarray(params["backbone"]["conv1"]["kernel"][...])
    return float(np.abs(after - first).max())


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_a_step_of_every_family_of_losses_trains_resnet50_on_eight_devices(family):
    change = moved(FAMILIES[family])
    assert np.isfinite(change)
    assert change > 0
