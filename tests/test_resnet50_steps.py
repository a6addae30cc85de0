"""One training step of ResNet-50 on eight devices, with a loss of every family."""

import jax
import numpy as np
import optax
import pytest
from flax import nnx
from jax import lax

from rankjax import models
from rankjax.losses import LOSSES
from rankjax.objective import objective
from rankjax.parallel import AXIS, data_parallel, replicate
from rankjax.train import create_state, make_step

# One process compiles the step for all.
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("resnet50")]

ROWS, DIM, SIZE = 8, 8, 96
CLASSES = ROWS // 2
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
OF_PROXIES = ("proxies", "classification")


def chosen(embeddings, label, *, references, key, params):
    """The loss of the family that labels are of; they count on from one to the next."""

    def branch(family):
        proxies = {"references": references}
        compute = objective(
            LOSSES[FAMILIES[family]],
            axis_name=AXIS,
            has_aux=True,
        )
        given = proxies if family in OF_PROXIES else {}
        return lambda x, y: compute(x, y, key=key, params=params, **given)

    number, classes = label[0] // CLASSES, label % CLASSES
    return lax.switch(number, [*map(branch, FAMILIES)], embeddings, classes)


@pytest.fixture(scope="module")
def moved():
    """How far a first step of SGD moves the first kernel, by its largest change."""
    rngs = nnx.Rngs(0)
    network: nnx.Module = models.build(
        "resnet50",
        channels=3,
        embedding_dim=DIM,
        normalize=True,
        layers=models.Layers(AXIS, rngs),
    )
    proxies = models.Proxies(CLASSES, DIM, rngs=rngs)
    optimizer = optax.sgd(0.01)
    definition, state = create_state(
        models.WithLoss(network, proxies=proxies), optimizer
    )
    step = data_parallel(
        make_step(definition, chosen, optimizer, axis_name=AXIS),
        devices=jax.devices(),
        wrapper="pmap",
    )
    images = np.random.default_rng(0).integers(
        0, 256, (ROWS, SIZE, SIZE, 3), dtype=np.uint8
    )
    first, losses = jax.tree.map(np.asarray, state), set()

    def kernel(state):
        return np.asarray(state.params["network"]["backbone"]["conv1"]["kernel"][...])

    def moved(family: str) -> float:
        label = np.arange(ROWS, dtype=np.int32) // 2 + CLASSES * [*FAMILIES].index(
            family
        )
        state, metrics = step(
            replicate(first, jax.devices()), {"image": images, "label": label}
        )
        loss = float(metrics["loss"])
        assert np.isfinite(loss)
        assert loss not in losses  # each family has its own
        losses.add(loss)
        return float(np.abs(kernel(state) - kernel(first)).max())

    return moved


@pytest.mark.parametrize("family", FAMILIES)
def test_a_step_of_every_family_of_losses_trains_resnet50_on_eight_devices(
    family, moved
):
    change = moved(family)
    assert np.isfinite(change)
    assert change > 0
