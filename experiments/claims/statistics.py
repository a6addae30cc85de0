"""Statistics of paired seeds: intervals, tests, and corrections."""

from collections.abc import Callable, Sequence

import numpy as np
from scipy import special, stats

from experiments.claims.claim import Finding

RESAMPLES = 10_000


def paired(what: str, one: np.ndarray, other: np.ndarray | float = 0.0) -> Finding:
    """Mean of `one - other` over seeds.

    The interval is a bootstrap over seeds (bias-corrected and accelerated), the test is
    Wilcoxon's signed-rank test.

    Args:
      what: see `Finding`.
      one: [seeds].
      other: [seeds], of the same seeds, or what `one` is compared with.

    Raises:
      ValueError: a difference is not finite.
    """
    difference = np.asarray(one, float) - other
    if not np.isfinite(difference).all():
        raise ValueError(f"{what}: not all differences are finite")
    low, high = interval(difference, np.mean)
    p = float(stats.wilcoxon(difference).pvalue) if difference.any() else 1.0
    return Finding(what, float(difference.mean()), low, high, len(difference), p)


def ratio(what: str, one: np.ndarray, other: np.ndarray) -> Finding:
    """Mean of `one` over mean of `other`, both [seeds] and of the same seeds.

    The interval is a percentile bootstrap over seeds, the test Wilcoxon's signed-rank
    test of the differences.
    """

    def figure(values: np.ndarray, axis: int) -> np.ndarray:
        means = np.mean(values, axis=axis)
        return means[0] / means[1]

    both = np.stack([one, other], -1).astype(float)
    low, high = interval(both, figure)
    test = paired(what, one, other)
    return Finding(what, float(figure(both, 0)), low, high, len(both), test.p)


def share(what: str, mask: np.ndarray, seeds: int) -> Finding:
    """Share of a mask of runs, with Wilson's interval."""
    low, high = wilson(int(mask.sum()), mask.size)
    return Finding(what, float(mask.mean()), low, high, seeds)


def interval(
    values: np.ndarray, figure: Callable[..., np.ndarray]
) -> tuple[float, float]:
    """95 % bootstrap interval of a figure of [seeds, ...], resampling seeds.

    Args:
      values: [seeds] or [seeds, ...].
      figure: takes `values` and `axis`, the axis of seeds; of what is left after it,
        the axes of `values` come first.
    """
    # Constant but for rounding: the acceleration of the bootstrap would be 0 / 0.
    if np.ptp(values, axis=0).max() <= 1e-9 * np.abs(values).max():
        value = float(figure(values, axis=0))
        return value, value
    ends = stats.bootstrap(
        (values,),
        figure,
        n_resamples=RESAMPLES,
        vectorized=True,
        axis=0,
        method="BCa" if values.ndim == 1 else "percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval
    return float(ends.low), float(ends.high)


def wilson(successes: int, trials: int) -> tuple[float, float]:
    """95 % interval of a share (Wilson, JASA 1927)."""
    ends = stats.binomtest(successes, trials).proportion_ci(method="wilson")
    return float(ends.low), float(ends.high)


def mcnemar(one: np.ndarray, other: np.ndarray) -> float:
    """Exact two-sided p that two paired yes/no outcomes are yes equally often."""
    only, other_only = int(np.sum(one & ~other)), int(np.sum(~one & other))
    if only + other_only == 0:
        return 1.0
    return float(stats.binomtest(only, only + other_only).pvalue)


def holm(p: Sequence[float]) -> list[float]:
    """p values adjusted for their number (Holm, Scandinavian J. of Statistics 1979)."""
    order = np.argsort(p)
    adjusted = np.empty(len(p))
    running = 0.0
    for place, index in enumerate(order):
        running = max(running, (len(p) - place) * p[index])
        adjusted[index] = min(running, 1.0)
    return adjusted.tolist()


def slopes(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Least-squares slope of each row of y [seeds, points] on x [points]."""
    centred = x - x.mean()
    return (y - y.mean(-1, keepdims=True)) @ centred / (centred @ centred)


def logistic(x: np.ndarray, yes: np.ndarray, trials: int) -> np.ndarray:
    """Coefficients of a logistic regression with a ridge of 1 on all but the intercept.

    The ridge, scikit-learn's default, keeps them finite where a line parts all yes from
    all no.

    Args:
      x: [points, k].
      yes: [..., points], how many of the trials of a point said yes.
      trials: of each point.

    Returns:
      [..., 1 + k], the intercept first.
    """
    design = np.column_stack([np.ones(len(x)), x])
    size = design.shape[1]
    squares = (design[:, :, None] * design[:, None, :]).reshape(len(x), -1)
    ridge = np.diag([1e-9, *np.ones(x.shape[1])])
    found = np.zeros((*yes.shape[:-1], size))
    for _ in range(50):
        chance = special.expit(found @ design.T)
        gradient = (yes - trials * chance) @ design - found @ ridge
        weight = trials * chance * (1 - chance)
        curvature = (weight @ squares).reshape(*found.shape, size) + ridge
        step = np.linalg.solve(curvature, gradient[..., None])[..., 0]
        found += np.clip(step, -2, 2)
        if np.abs(step).max() < 1e-6:
            break
    return found


def first_reached(
    steps: np.ndarray, curves: np.ndarray, target: np.ndarray | float
) -> tuple[np.ndarray, np.ndarray]:
    """The first step at which each curve is at its target, and whether it ever is.

    Args:
      steps: [evaluations].
      curves: [seeds, evaluations].
      target: [seeds] or one for all.

    Returns:
      Steps [seeds], the last one where the target is not reached (right-censored), and
      a mask of those that reached it.
    """
    at = curves >= np.reshape(target, (-1, 1))
    reached = np.asarray(at.any(-1))
    return np.where(reached, steps[at.argmax(-1)], steps[-1]), reached
