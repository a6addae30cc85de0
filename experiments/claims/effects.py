"""From effects to a verdict: what counts, and effects that no single seed has."""

import itertools
from collections.abc import Mapping, Sequence

import numpy as np
from scipy import stats

from experiments.claims.claim import Finding, Word
from experiments.claims.statistics import RESAMPLES

LEAST = 0.01
"""The smallest difference that matters: one in a hundred."""

RULE = (
    f"An effect is there if its interval is above 0 and reaches {LEAST:g}, and absent "
    f"if its interval ends below {LEAST:g}. All there: holds. Some there: holds in "
    "part. All absent: does not hold. Otherwise: cannot tell."
)

BENCHES: Mapping[str, str] = {
    "modes": "drawn classes",
    "glyphs": "glyphs",
    "cases": "glyphs, both cases a class",
    "digits": "digits",
}
"""How benches are called in tables and figures, by the ends of studies' names."""


def word(findings: Sequence[Finding], least: float = LEAST) -> Word:
    """The verdict of the effects that decide, by `RULE`."""
    there = [f.low > 0 and f.high >= least for f in findings]
    if all(there):
        return "holds"
    if any(there):
        return "holds in part"
    absent = all(f.high < least for f in findings)
    return "does not hold" if absent else "cannot tell"


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
    error = np.sqrt(
        max(usual, np.average((effects - mean) ** 2, weights=weights) / (count - 1))
    )
    reach = stats.t.ppf(0.975, count - 1) * error
    p = float(2 * stats.t.sf(abs(mean) / error, count - 1))
    seeds = min(len(d) for d in differences)
    further = stats.t.ppf(0.975, count - 2) * np.sqrt(between + usual)
    return (
        Finding(what, mean, float(mean - reach), float(mean + reach), seeds, p),
        Finding(
            f"{what}: a further bench",
            mean,
            float(mean - further),
            float(mean + further),
            seeds,
        ),
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
            inner = [s for s in squares if set(s) < set(chosen)]
            squares[chosen] = seeds * cells * marginal.var(1) - sum(
                squares[s] for s in inner
            )
    return {
        name: square / np.maximum(square + error, 1e-300)
        for name, square in squares.items()
    }
