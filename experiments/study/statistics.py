"""Statistics of paired seeds: intervals, tests, corrections, effects over benches."""

import dataclasses
import itertools
from collections.abc import Callable, Sequence

import numpy as np
from scipy import special, stats

RESAMPLES = 10_000


@dataclasses.dataclass(frozen=True)
class Finding:
    """One measured effect.

    Attributes:
      what: in words, with its unit, such as 'Recall@1, N-pairs minus semi-hard, modes'.
      effect: mean over seeds, or what else `what` says.
      low, high: ends of its 95 % interval.
      seeds: that it rests on.
      p: two-sided, of a test against no effect; None where nothing is tested.
    """

    what: str
    effect: float
    low: float
    high: float
    seeds: int
    p: float | None = None


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
    scaled = np.asarray(p)[order] * np.arange(len(p), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(scaled), 1.0)
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


def resampled(values: np.ndarray) -> np.ndarray:
    """Means of [seeds, ...] over all seeds, and over 10,000 resamplings of them.

    Returns:
      [1 + resamplings, ...], the plain mean first.
    """
    seeds = len(values)
    counts = np.random.default_rng(0).multinomial(
        seeds, np.full(seeds, 1 / seeds), RESAMPLES
    )
    weights = np.concatenate([np.ones((1, seeds)), counts]) / seeds
    return (weights @ values.reshape(seeds, -1)).reshape(-1, *values.shape[1:])


def of_draws(
    what: str, draws: np.ndarray, seeds: int, p: float | None = None
) -> Finding:
    """A figure of `resampled` means, with its percentiles 2.5 and 97.5."""
    low, high = np.percentile(draws[1:], [2.5, 97.5])
    return Finding(what, float(draws[0]), float(low), float(high), seeds, p)


def random_effects(
    what: str, differences: Sequence[np.ndarray]
) -> tuple[Finding, Finding]:
    """Mean of paired differences over benches that differ.

    The variance between benches is DerSimonian and Laird's (Controlled Clinical Trials
    1986). The interval and the test of the mean are Hartung and Knapp's (Statistics in
    Medicine 2001), with an error that is never below the usual one.

    Args:
      what: see `Finding`.
      differences: of every bench, [seeds].

    Returns:
      The mean, and the same with the 95 % prediction interval of a further bench
      (Higgins, Thompson, Spiegelhalter, J. Royal Statistical Society A 2009).
    """
    effects = np.array([d.mean() for d in differences])
    variances = np.array([d.var(ddof=1) / len(d) for d in differences])
    variances, count = np.maximum(variances, 1e-12), len(effects)
    weights = 1 / variances
    spread = np.sum(weights * (effects - np.average(effects, weights=weights)) ** 2)
    scale = weights.sum() - np.sum(weights**2) / weights.sum()
    between = max(0.0, float((spread - (count - 1)) / scale))

    weights = 1 / (variances + between)
    mean = float(np.average(effects, weights=weights))
    usual = 1 / weights.sum()
    squares = np.average((effects - mean) ** 2, weights=weights)
    error = np.sqrt(max(usual, squares / (count - 1)))
    p = float(2 * stats.t.sf(abs(mean) / error, count - 1))
    seeds = min(len(d) for d in differences)

    def reaching(what: str, half: float, p: float | None = None) -> Finding:
        return Finding(what, mean, mean - float(half), mean + float(half), seeds, p)

    further = stats.t.ppf(0.975, count - 2) * np.sqrt(between + usual)
    return (
        reaching(what, stats.t.ppf(0.975, count - 1) * error, p),
        reaching(f"{what}: a further bench", further),
    )


def partial_eta_squared(values: np.ndarray) -> dict[tuple[int, ...], np.ndarray]:
    """Parts of variance in a full design of factors, repeated with every seed.

    Partial eta squared of an effect is SS / (SS + SS error). Seeds are blocks: the
    error is what is left of [seed, combination] without both means.

    Args:
      values: [seeds, levels of factor 0, levels of factor 1, ...].

    Returns:
      By factors, such as (0,) for a main effect and (0, 1) for an interaction:
      [1 + resamplings] as `resampled` gives them.
    """
    seeds, *levels = values.shape
    cells = int(np.prod(levels))
    flat = values.reshape(seeds, cells)
    apart = flat - flat.mean(1, keepdims=True)
    means = resampled(values)
    error = seeds * (resampled(apart**2) - resampled(apart) ** 2).sum(1)
    factors = range(len(levels))
    squares: dict[tuple[int, ...], np.ndarray] = {}
    for size in factors:
        for chosen in itertools.combinations(factors, size + 1):
            others = tuple(f + 1 for f in factors if f not in chosen)
            marginal = means.mean(others).reshape(len(means), -1)
            inner = sum(squares[s] for s in squares if set(s) < set(chosen))
            squares[chosen] = seeds * cells * marginal.var(1) - inner
    return {k: s / np.maximum(s + error, 1e-300) for k, s in squares.items()}
