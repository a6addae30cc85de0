"""C8: what rotating and scaling an embedding does to the angular loss.

`curves.embedding_scale` draws it.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

import rankjax
from experiments.study.claims.claim import Results, Verdict, claim, verdict_word
from experiments.study.statistics import paired, slopes
from rankjax import losses, similarity

SETS, CLASSES, PER_CLASS = 24, 16, 4
DIM = 3
"""16 were announced. There the rule cannot be computed: no triplet of most sets has an
angle above 45 degrees at its negative, so that the hinge is 0 and has no change."""

SCALES = np.geomspace(0.1, 10, 21)
CONSTANT = 1e-3
LOSSES: dict[str, tuple[Any, Any]] = {
    "triplet, margin 0.2": (losses.triplet_loss, None),
    "angular hinge": (losses.angular_hinge_loss, None),
    "angular": (losses.angular_loss, similarity.dot),
    "N-pairs": (losses.n_pairs_loss, None),
}
"""Losses with their similarity, None for their own; angles are 45 degrees."""

Measured = dict[str, tuple[np.ndarray, np.ndarray]]


def measured(batches: np.ndarray, labels: np.ndarray) -> Measured:
    """Values and active shares [...] of each loss, of batches [..., rows, dim]."""
    flat = jnp.asarray(batches.reshape(-1, *batches.shape[-2:]), jnp.float32)
    found = {}
    for name in LOSSES:
        values, aux = _of_batches(name)(flat, labels)
        both = (np.asarray(x, float) for x in (values, aux["active_share"]))
        value, active = (x.reshape(batches.shape[:-2]) for x in both)
        found[name] = value, active
    return found


@functools.cache
def _of_batches(name: str) -> Callable[..., Any]:
    loss, measure = LOSSES[name]
    compute = rankjax.objective(loss, similarity=measure, has_aux=True, block=None)
    return jax.jit(jax.vmap(compute, (0, None)))


@functools.cache
def sets() -> tuple[Measured, Measured]:
    """What is measured of 24 random sets: scaled [set, scale], and rotated [set]."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(CLASSES), PER_CLASS)
    rows = rng.normal(size=(SETS, CLASSES, DIM))[:, labels]
    rows += rng.normal(size=rows.shape)
    rows /= np.linalg.norm(rows, axis=-1).mean(-1)[:, None, None]
    rotations = np.linalg.qr(rng.normal(size=(SETS, DIM, DIM)))[0]
    return (
        measured(SCALES[:, None, None] * rows[:, None], labels),
        measured(rows @ rotations, labels),
    )


def tau(active: np.ndarray) -> np.ndarray:
    """Kendall's tau of active shares [set, scale] and the scale; 0 if constant."""

    def of(row: np.ndarray) -> float:
        constant = np.ptp(row) <= CONSTANT
        return 0.0 if constant else float(stats.kendalltau(SCALES, row).statistic)

    return np.array([of(row) for row in active])


@claim("C8")
def invariance(results: Results) -> Verdict:
    """The angular loss does not depend on the rotation and the scale of the embedding,
    as an angle has neither; a margin of a distance depends on scale.

    Expected: Exact, and so in part only. Rotation changes no loss of distances or inner
    products, the triplet's as little. Scale leaves the angle, and with it which terms
    of the angular hinge are active, but multiplies the hinge's value by its square; the
    logarithmic form, which is what is trained, is not free of scale at all on inner
    products. The triplet's active share falls with scale. Holds in part.

    Decides: 24 random sets of 16 classes of 4 rows in 16 dimensions (3 in the end: in
    16 the hinge is 0), multiplied by 21 scales from 0.1 to 10, and rotated. First: the
    size of Kendall's tau of the active share and the scale, triplet (margin 0.2) minus
    angular hinge; a share that moves by no more than 0.001 has tau 0. Holds: for both
    forms of the angular loss, on inner products, neither rotation nor scale changes the
    value by more than 0.001 of itself or the active share by more than 0.001, in any
    set. Holds in part: not so, but rotation changes neither, and scale leaves the
    hinge's active share. Does not hold: otherwise.
    """
    del results
    scaled, rotated = sets()
    middle = len(SCALES) // 2
    one = {name: (v[:, middle], a[:, middle]) for name, (v, a) in scaled.items()}

    def changes(name: str, of: Measured) -> tuple[float, float]:
        """The most that a value changes, over itself, and that a share changes."""
        value, active = (x.reshape(SETS, -1) for x in one[name])
        values, shares = (x.reshape(SETS, -1) for x in of[name])
        by_value, by_share = np.abs(values / value - 1), np.abs(shares - active)
        return float(by_value.max()), float(by_share.max())

    forms = ("angular hinge", "angular")
    by_rotation = max(max(changes(name, rotated)) for name in forms)
    by_scale = {name: changes(name, scaled) for name in forms}
    hinge_share = by_scale["angular hinge"][1]
    free = by_rotation <= CONSTANT and hinge_share <= CONSTANT
    most = max(max(change) for change in by_scale.values())
    word = verdict_word(holds=free and most <= CONSTANT, in_part=free, fails=True)

    taus = {name: tau(active) for name, (_, active) in scaled.items()}
    sizes = (np.abs(taus[name]) for name in ("triplet, margin 0.2", "angular hinge"))
    what = "Kendall's tau of active share and scale, "
    findings = [paired(f"size of {what}triplet - angular hinge", *sizes)]
    findings += [paired(f"{what}{name}", taus[name]) for name in LOSSES]
    for name in LOSSES:
        logs = np.log(scaled[name][0] + 1e-30)
        power = np.round(slopes(np.log(SCALES), logs), 4)
        what = f"power of scale that the value grows by, {name}"
        findings.append(paired(what, power))
    return Verdict(
        word,
        findings,
        f"Rotation changes nothing by more than {by_rotation:.1g}, and scale changes "
        f"the hinge's active share by {hinge_share:.1g} at most. Its value grows with "
        "the square of the scale, and the logarithmic form that is trained changes "
        f"{by_scale['angular'][0]:.3g}-fold on inner products (on cosines every loss "
        "is free of scale).",
    )
