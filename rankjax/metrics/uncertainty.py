"""How far to trust a mean over queries, and a difference between two of them."""

import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from rankjax.metrics import checks

_MOST_ENUMERATED = 16  # classes, 65,536 signs
_DRAWS = 2**24  # at a time: between fewer products BLAS threads idle less


class Interval(NamedTuple):
    """A mean, and the interval from low to high; NaN where it is not known."""

    mean: float
    low: float
    high: float


class Comparison(NamedTuple):
    """One metric of two models, a and b.

    Attributes:
      difference: a's mean minus b's, with its interval over classes.
      by_query: the same with the interval over queries.
      p_value: two-sided, of no difference.
      test: its name.
      verdict: 'NAME is better', or 'cannot tell'.
      sentence: verdict and figures.
    """

    difference: Interval
    by_query: Interval
    p_value: float
    test: str
    verdict: str
    sentence: str


def bootstrap(
    values: Mapping[str, Any],
    *,
    labels: Any = None,
    by: str = "query",
    samples: int = 5_000,
    level: float = 0.95,
    seed: int = 0,
) -> dict[str, Interval]:
    """Each metric's mean over queries and its bootstrap confidence interval.

    By query, queries are drawn with replacement: what to expect of other queries of the
    same classes. By class, whole classes are (the cluster bootstrap: Davison and
    Hinkley, "Bootstrap Methods and their Application", 1997, section 3.8): what to
    expect of other classes, and the honest one for classes never seen in training,
    since queries of a class are easy or hard together. All metrics share the draws.

    Bounds are the bias-corrected and accelerated ones (Efron, "Better Bootstrap
    Confidence Intervals", JASA 1987), with the acceleration from the jackknife, and
    with sqrt(n / (n - 1)) times Student's quantile for the normal one, n queries or
    classes, as Hesterberg expands percentiles ("What Teachers Should Know About the
    Bootstrap", The American Statistician 2015). Plain percentiles cover less than they
    say where values are skewed, as near a mean of 1, and where classes are few: 90% at
    15 classes, where these cover 93%. With equal values in all queries the interval is
    a point, which says nothing: n hits still allow about 3 / n misses.

    Args:
      values: [queries] of each metric by name, such as those of `Retrieval`.
      labels: [queries] integers or strings; needed by class.
      by: 'query' or 'class'.
      samples: bootstrap samples; time is O(samples x queries or classes), memory
        O(queries x metrics).
      level: of confidence, between 0 and 1.
      seed: of the samples.

    Raises:
      ValueError: NaN, a wrong shape, fewer than two queries or classes, or a setting
        out of range.
      TypeError: `values` is no mapping.
    """
    table = _table("values", values)
    checks.check_count("samples", samples, 1)
    checks.check_count("seed", seed, 0)
    if not 0 < level < 1:
        raise ValueError(f"level must be between 0 and 1, got {level}")
    if by not in ("query", "class"):
        raise ValueError(f"by must be 'query' or 'class', got {by!r}")
    if by == "class" and labels is None:
        raise ValueError("labels are needed by class, got None")
    sizes = np.ones(len(table))
    if by == "class":
        table, sizes = _per_class(table, labels)
    if len(table) < 2:
        name = "labels" if by == "class" else "values"
        what = "classes" if by == "class" else "queries"
        raise ValueError(f"{name} must hold two {what} or more, got 1")
    means = _resample(table, sizes, samples, np.random.default_rng(seed))
    return {
        name: _bias_corrected(totals, sizes, drawn, level)
        for name, totals, drawn in zip(values, table.T, means.T, strict=True)
    }


def _table(name: str, values: Any, n: int | None = None) -> np.ndarray:
    """Values [queries, metrics] in float64."""
    if not isinstance(values, Mapping):
        raise TypeError(
            f"{name} must be a dict of values by metric, got {type(values).__name__}"
        )
    if not values:
        raise ValueError(f"{name} must hold a metric, got none")
    columns: list[np.ndarray] = []
    for key, column in values.items():
        columns.append(checks.as_values(f"{name}[{key!r}]", column, n))
        if not np.isfinite(columns[-1]).all():
            raise ValueError(f"{name}[{key!r}] must be finite, got infinity")
        n = len(columns[0])
    return np.stack(columns, axis=1)


def _per_class(table: np.ndarray, labels: Any) -> tuple[np.ndarray, np.ndarray]:
    """Sums [classes, metrics] and numbers [classes] of each class's values."""
    labels = checks.as_labels("labels", labels, len(table))
    _, group, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    sums = [np.bincount(group, column) for column in table.T]
    return np.stack(sums, axis=1), sizes.astype(np.float64)


def _resample(
    totals: np.ndarray, sizes: np.ndarray, samples: int, rng: np.random.Generator
) -> np.ndarray:
    """Means [samples, metrics] of rows drawn with replacement."""
    n = len(totals)
    means = []
    for rows in _chunks(samples, n):
        drawn = np.empty((rows, n))  # how often each row is in each sample
        for times in drawn:
            times[:] = np.bincount(rng.integers(n, size=n), minlength=n)
        means.append(drawn @ totals / (drawn @ sizes)[:, None])
    return np.concatenate(means)


def _bias_corrected(
    totals: np.ndarray, sizes: np.ndarray, means: np.ndarray, level: float
) -> Interval:
    """Of sum(totals) / sum(sizes), with the means of its samples."""
    from scipy import special

    total, size = totals.sum(), sizes.sum()
    mean, n, samples = total / size, len(totals), len(means)
    if np.ptp(totals / sizes) == 0:
        return Interval(float(mean), float(mean), float(mean))
    below = (np.mean(means < mean) + np.mean(means <= mean)) / 2
    bias = special.ndtri(np.clip(below, 0.5 / samples, 1 - 0.5 / samples))
    without = (total - totals) / (size - sizes)
    off = without.mean() - without
    acceleration = np.sum(off**3) / (6 * np.sum(off**2) ** 1.5)
    quantiles = special.stdtrit(n - 1, np.array([1 - level, 1 + level]) / 2)
    z = bias + math.sqrt(n / (n - 1)) * quantiles
    z /= np.maximum(1 - acceleration * z, 1e-9)  # at 0 is the end of the scale
    low, high = np.quantile(means, special.ndtr(bias + z))
    return Interval(float(mean), float(low), float(high))


def _chunks(samples: int, n: int) -> Iterator[int]:
    """Numbers of samples of n that fit into memory together."""
    most = max(1, _DRAWS // n)
    for start in range(0, samples, most):
        yield min(most, samples - start)


def compare_models(
    a: Mapping[str, Any],
    b: Mapping[str, Any],
    *,
    labels: Any,
    samples: int = 5_000,
    level: float = 0.95,
    seed: int = 0,
    names: tuple[str, str] = ("a", "b"),
) -> dict[str, Comparison]:
    """Two models on the same queries: is a's mean above b's on classes like these?

    The difference of each query has its `bootstrap` intervals by class and by query,
    for each metric that both have.
    The p-value is that of the sign-flip permutation test: if neither model is better,
    each class's total difference could as well have the other sign. It is two-sided;
    exact over all signs for up to 16 classes that differ, else (1 + hits) / (1 +
    samples) over signs at random, which is exact too (Phipson and Smyth, "Permutation
    P-values Should Never Be Zero", 2010). The verdict goes by the p-value.

    It is about two models. Of the methods that trained them it says nothing, since
    training again would give others: take a t test of five runs or more of each.

    Args:
      a: [queries] values of one model by metric, higher is better.
      b: those of the other for the same queries.
      labels: [queries] integers or strings, two classes or more.
      samples: of the bootstrap, and of the signs.
      level: of confidence; the test is at 1 - level.
      seed: of the samples.
      names: of the models, for the verdict.

    Raises:
      ValueError: NaN, a wrong shape, one class, no common metric, or a setting out of
        range.
      TypeError: `a` or `b` is no mapping.
    """
    shared = [name for name in a if name in b]
    ours = _table("a", {name: a[name] for name in shared})
    theirs = _table("b", {name: b[name] for name in shared}, len(ours))
    differences = dict(zip(shared, (ours - theirs).T, strict=True))
    by_class, by_query = (
        bootstrap(
            differences, labels=labels, by=by, samples=samples, level=level, seed=seed
        )
        for by in ("class", "query")
    )
    totals, _ = _per_class(ours - theirs, labels)
    test = f"sign-flip permutation of {len(totals)} classes"
    found = {}
    for name, column in zip(shared, totals.T, strict=True):
        p_value = _sign_flip(column, samples, np.random.default_rng(seed))
        mean, low, high = difference = by_class[name]
        verdict = "cannot tell"
        if p_value < 1 - level:
            verdict = f"{names[mean < 0]} is better"
        sentence = (
            f"{verdict}: {names[0]} - {names[1]} = {mean:+.4f}, {100 * level:g}% "
            f"interval {low:+.4f} to {high:+.4f}, p = {p_value:.2g} ({test})"
        )
        found[name] = Comparison(
            difference, by_query[name], p_value, test, verdict, sentence
        )
    return found


def _sign_flip(totals: np.ndarray, samples: int, rng: np.random.Generator) -> float:
    totals = totals[totals != 0]
    n = len(totals)
    # Sums in another order may differ by rounding and are equal all the same.
    least = abs(totals.sum()) - 1e-12 * np.abs(totals).sum()
    if n <= _MOST_ENUMERATED:
        signs = np.arange(2**n)[:, None] >> np.arange(n)[None, :] & 1
        return float(np.mean(np.abs((2 * signs - 1) @ totals) >= least))
    hits = 0
    for rows in _chunks(samples, n):
        positive = rng.integers(0, 2, (rows, n), np.int8)
        hits += int(np.sum(np.abs((2.0 * positive - 1) @ totals) >= least))
    return (1 + hits) / (1 + samples)
