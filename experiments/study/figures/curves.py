"""Losses over the embedding's scale."""

import numpy as np
from matplotlib.figure import Figure

from experiments.study.claims.c08_invariance import measured
from experiments.study.drawing import panels
from experiments.study.registry import figure


@figure()
def embedding_scale() -> Figure:
    """What scaling the embedding does to four losses.

    32 points of eight classes in 3 dimensions, their spread 0.6 of that of the class
    centres, multiplied by s. Left: the share of terms that are above zero. Of the
    triplet loss it depends on s, for the margin of 0.2 is a length; of the angular
    hinge it does not, for an angle has no unit. N-pairs and the angular loss in its
    logarithmic form are never at zero. Right: the value of the loss, over its value at
    s = 1. The hinge's value grows as s², and the two logarithmic losses are not
    free of scale either.

    Computed with rankjax.objective and its active_share; both logarithmic losses on
    inner products, angles 45 degrees. Source of the claim that the angular loss is free
    of scale: Wang et al., ICCV 2017.
    """
    drawn, (share, value) = panels(2)
    scales = np.geomspace(0.1, 10, 41)
    shares = scaled(scales)
    for i, (name, (values, active)) in enumerate(shares.items()):
        every = {"marker": "os^D"[i], "markevery": (2 + 2 * i, 9), "ms": 6}
        share.plot(scales, active, label=name, **every)
        at_one = values[len(scales) // 2]
        value.plot(scales, np.maximum(values / at_one, 1e-12), label=name, **every)
    share.set(title="Share of active terms", ylim=(-0.05, 1.1))
    value.set(title="Loss over that at s = 1", yscale="log", ylim=(5e-3, 500))
    for panel in (share, value):
        panel.set(xscale="log", xlabel="scale s of the embedding")
    value.legend(loc="lower right")
    return drawn


def scaled(scales: np.ndarray) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Values and active shares [scale] of four losses of one scaled batch, by name."""
    random = np.random.default_rng(1)
    labels = np.repeat(np.arange(8), 4)
    rows = random.normal(size=(8, 3))[labels] + 0.6 * random.normal(size=(32, 3))
    return measured(
        scales[:, None, None] * rows / np.linalg.norm(rows, axis=1).mean(), labels
    )
