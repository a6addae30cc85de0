"""What is probably wrong in a set of embeddings: labels, duplicates, outliers, classes.

All of it is read off the exact nearest rows, see `nearest`, and off the similarities
inside each class; no matrix of all rows by all rows is held.
"""

from typing import Any, NamedTuple

import numpy as np

from rankjax.metrics.checks import as_embeddings, as_labels, check_count
from rankjax.metrics.directions import unit_rows
from rankjax.metrics.neighbours import Neighbours

_AT_ONCE = 2**24  # similarities inside a class that are held at once


class Nearer(NamedTuple):
    """How near each row is to its own class, and to the nearest other one.

    Attributes:
      own: float [n], mean cosine to the k nearest rows of its class, fewer where the
        class has fewer; NaN for the only row of a class.
      other: float [n], the same of the other class for which it is highest; where
        that class has fewer than k rows among the neighbours, the last neighbour
        stands for the rest: a bound from above. NaN where no neighbour is of another
        class.
      label: int [n], that other class; its own where there is none.
    """

    own: np.ndarray
    other: np.ndarray
    label: np.ndarray

    @property
    def ratio(self) -> np.ndarray:
        """(1 - own) / (1 - other), float [n]: how many times as far its own class is.

        The ratio of distances by which Lowe, "Distinctive Image Features", IJCV 2004,
        trusts a match, here of two classes. Labels are the more suspect the higher it
        is; above 2 most are wrong in the experiments of `experiments.bench.suspects`.
        0 where there is nothing to compare.
        """
        least = 1e-6  # what cosines of equal rows differ by in float32
        own, other = (np.maximum(1 - each, least) for each in (self.own, self.other))
        return np.nan_to_num(own / other)


def nearer_class(
    embeddings: Any, labels: Any, neighbours: Neighbours, *, k: int = 3
) -> Nearer:
    """Compares each row's label with its neighbourhood.

    Args:
      embeddings: [n, dim], compared by cosine.
      labels: int [n].
      neighbours: of all rows, from `nearest(embeddings, k=...)`; some tens of them.
      k: rows of a class that a row is compared with.

    Raises:
      ValueError: a wrong shape, or k is not positive.
      TypeError: a wrong type.
    """
    embeddings = as_embeddings("embeddings", embeddings)
    labels = as_labels("labels", labels, len(embeddings))
    _check(neighbours, len(embeddings))
    check_count("k", k, 1)
    values, codes = np.unique(labels, return_inverse=True)
    sizes = np.bincount(codes)
    own = _own_similarity(unit_rows(embeddings), codes, k)
    found, scores = codes[neighbours.rows], neighbours.similarities
    n, most = found.shape
    # Of each row's neighbours class by class, nearest first: the place in its class.
    order = np.argsort(found, axis=1, kind="stable")
    ordered = np.take_along_axis(found, order, 1)
    begins = np.ones((n, most), bool)
    begins[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    start = np.maximum.accumulate(np.where(begins, np.arange(most), 0), axis=1)
    place = np.arange(most) - start
    # As many rows of the other class as of its own: the mean of fewer would be higher.
    wanted = np.clip(sizes[codes] - 1, 1, k)[:, None]
    wanted = np.minimum(wanted, sizes[ordered])
    last = scores[:, -1:]
    gain = np.where(place < wanted, np.take_along_axis(scores, order, 1) - last, 0)
    total = np.cumsum(gain, axis=1)
    before = np.take_along_axis(total - gain, start, 1)
    means = (total - before) / wanted + last
    means = np.where(ordered == codes[:, None], -np.inf, means)
    # The running sum is whole at the last neighbour of a class, where it is highest.
    best = means.argmax(1)
    other = means[np.arange(n), best]
    none = np.isneginf(other)
    label = np.where(none, codes, ordered[np.arange(n), best])
    return Nearer(own, np.where(none, np.nan, other), values[label])


def duplicates(
    neighbours: Neighbours, *, near: float = 0.1
) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of rows that are much nearer than nearest neighbours usually are.

    The limit is 1 - `near` x the median over rows of 1 - the cosine of the nearest
    row, but at most 1 - 1e-6, what equal rows differ by in float32.

    Args:
      neighbours: of all rows by cosine, see `nearest`. Of more than their k copies of
        one row each has pairs with k.
      near: from 0 to 1.

    Returns:
      Row numbers int [pairs, 2], the lower first, and similarities [pairs], falling.

    Raises:
      ValueError: near is out of range.
      TypeError: neighbours are no `Neighbours`.
    """
    _check(neighbours)
    if not 0 <= near <= 1:
        raise ValueError(f"near must be from 0 to 1, got {near}")
    rows, scores = neighbours
    usual = float(np.median(1 - scores[:, 0]))
    limit = 1 - max(near * usual, 1e-6)
    first, place = np.nonzero(scores >= limit)
    pairs = np.sort(np.stack([first, rows[first, place]], 1), axis=1)
    pairs, at = np.unique(pairs, axis=0, return_index=True)
    similarities = scores[first, place][at]
    falling = np.argsort(-similarities, kind="stable")
    return pairs[falling], similarities[falling]


def outliers(values: Any, labels: Any = None) -> np.ndarray:
    """How far values lie below their median, float [n] in robust standard deviations.

    The modified z-score with its sign turned, 0.6745 (median - x) / MAD, where MAD is
    the median absolute deviation; above 3.5 a value is an outlier (Iglewicz and
    Hoaglin, How to Detect and Handle Outliers, 1993). All zeros where MAD is 0.

    Args:
      values: float [n], such as `Nearer.own`, or the mean similarity of neighbours;
        NaN gives NaN.
      labels: int [n]; with them the median is that of the value's class, and MAD that
        of all differences from it.

    Raises:
      ValueError: another shape.
      TypeError: labels that are neither integers nor strings.
    """
    values = np.asarray(values, np.float64)
    if values.ndim != 1:
        raise ValueError(f"values must have shape (n,), got {values.shape}")
    if labels is None:
        below = np.nanmedian(values) - values
    else:
        labels = as_labels("labels", labels, len(values))
        codes = np.unique(labels, return_inverse=True)[1]
        below = _median_by_class(values, codes)[codes] - values
    spread = np.nanmedian(np.abs(below)) if np.isfinite(below).any() else 0.0
    return below * (0.6745 / spread) if spread > 0 else np.zeros_like(below)


def mixed_classes(labels: Any, neighbours: Neighbours) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of classes whose rows are each other's neighbours: maybe one class.

    Each row looks at as many neighbours as its class has other rows. For classes a and
    b the figure is the lower one of two: of what rows of a find in a and b the share
    that is in b, over |b| / (|a| + |b| - 1), what it is if the two are mixed by chance;
    and the same with a and b exchanged. 0 is no neighbour, and 1 two classes that
    cannot be told apart.

    Args:
      labels: int [n].
      neighbours: of all rows, see `nearest`; more than there are do not count.

    Returns:
      Labels [pairs, 2] and figures [pairs], the highest first; of pairs that are
      neighbours both ways.

    Raises:
      ValueError: a wrong shape.
      TypeError: labels are neither integers nor strings.
    """
    labels = as_labels("labels", labels)
    _check(neighbours, len(labels))
    values, codes = np.unique(labels, return_inverse=True)
    sizes = np.bincount(codes)
    looks = np.arange(neighbours.rows.shape[1]) < sizes[codes][:, None] - 1
    row, place = np.nonzero(looks)
    edges = np.stack([codes[row], codes[neighbours.rows[row, place]]], 1)
    pairs, counts = np.unique(edges, axis=0, return_counts=True)
    count = dict(zip(map(tuple, pairs.tolist()), counts.tolist(), strict=True))
    found = []
    for a, b in count:
        if a < b and (b, a) in count:
            shares = []
            for here, to in ((a, b), (b, a)):
                share = count[here, to] / (count[here, to] + count.get((here, here), 0))
                shares.append(share * (sizes[a] + sizes[b] - 1) / sizes[to])
            found.append((min(shares), a, b))
    found.sort(key=lambda each: (-each[0], *each[1:]))
    named = np.array([each[1:] for each in found], int).reshape(-1, 2)
    return values[named], np.array([each[0] for each in found])


def modes(embeddings: Any, labels: Any, *, least: int = 3) -> tuple[Any, Any, Any]:
    """Classes whose rows fall into two groups that have little to do with each other.

    The rows of a class, as directions, are parted by the sign of their first principal
    component and then by k-means with two centres. The figure is the mean silhouette
    (Rousseeuw, J. Comput. Appl. Math. 1987) with cosine distances to the centres: of a
    row with the distances a to its own centre and b to the other, (b - a) / max(a, b).
    Above 0.5 the structure is called reasonable, near 0 there is none.

    Args:
      embeddings: [n, dim].
      labels: int [n].
      least: rows that each group must have, at least a fifth of the class too;
        otherwise it is a few outliers and no group.

    Returns:
      Labels [classes] of those that have two such groups, figures [classes], the
      highest first, and the number int [n] of each row's group in its class, 0 or 1.

    Raises:
      ValueError: a wrong shape, or least is below 2.
      TypeError: a wrong type.
    """
    check_count("least", least, 2)
    rows = unit_rows(as_embeddings("embeddings", embeddings))
    values, codes = np.unique(
        as_labels("labels", labels, len(rows)), return_inverse=True
    )
    group, found = np.zeros(len(rows), int), []
    for code, members in _classes(codes):
        if len(members) < 2 * least:
            continue
        own = rows[members]
        centred = own - own.mean(0)
        axis = np.linalg.svd(centred, full_matrices=False)[2][0]
        second = centred @ axis > 0
        for _ in range(10):
            if not 0 < second.sum() < len(own):
                break
            near = (
                own @ unit_rows(np.stack([own[~second].mean(0), own[second].mean(0)])).T
            )
            second = near[:, 1] > near[:, 0]
        group[members] = second
        smaller = min(second.sum(), len(own) - second.sum())
        if smaller >= max(least, len(own) / 5):
            # The mean distance to rows of length 1 is that to their mean.
            means = np.stack([own[~second].mean(0), own[second].mean(0)])
            far, sizes = 1 - own @ means.T, np.array([(~second).sum(), second.sum()])
            a, b = np.where(second, far.T[::-1], far.T)
            a = a * sizes[second.astype(int)] / (sizes[second.astype(int)] - 1)
            silhouettes = (b - a) / np.maximum(np.maximum(a, b), 1e-9)
            found.append((float(silhouettes.mean()), code))
    found.sort(key=lambda each: (-each[0], each[1]))
    return values[[c for _, c in found]], np.array([f for f, _ in found]), group


def _check(neighbours: Neighbours, n: int | None = None) -> None:
    if not isinstance(neighbours, Neighbours):
        raise TypeError(
            "neighbours must be what rankjax.metrics.nearest gives, got "
            f"{type(neighbours).__name__}"
        )
    if n is not None and len(neighbours.rows) != n:
        raise ValueError(
            f"neighbours must be of all {n} rows, got those of {len(neighbours.rows)}"
        )


def _classes(codes: np.ndarray) -> Any:
    order = np.argsort(codes, kind="stable")
    ends = np.cumsum(np.bincount(codes))
    return enumerate(np.split(order, ends[:-1]))


def _median_by_class(values: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """The median of each class [classes]; NaN of a class of NaN alone."""
    found = np.full(codes.max() + 1, np.nan)
    for code, members in _classes(codes):
        known = values[members][~np.isnan(values[members])]
        if len(known):
            found[code] = np.median(known)
    return found


def _own_similarity(rows: np.ndarray, codes: np.ndarray, k: int) -> np.ndarray:
    """Mean cosine of each row to the k nearest of its class; NaN where it is alone."""
    found = np.full(len(rows), np.nan)
    for _, members in _classes(codes):
        own, wanted = rows[members], min(k, len(members) - 1)
        if not wanted:
            continue
        for some in np.array_split(np.arange(len(own)), len(own) ** 2 // _AT_ONCE + 1):
            scores = own[some] @ own.T
            scores[np.arange(len(some)), some] = -np.inf
            best = np.partition(scores, -wanted, axis=1)[:, -wanted:]
            found[members[some]] = best.mean(1)
    return found
