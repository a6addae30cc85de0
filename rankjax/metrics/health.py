"""How an embedding uses its space, without asking what is retrieved."""

from typing import Any

import numpy as np

from rankjax.metrics import checks

_COLLAPSED_COSINE = 0.99
_COLLAPSED_LENGTH = 1e-4
_ROWS = 1024  # at a time


def health(
    embeddings: Any, labels: Any, *, seed: int = 0, sample: int = 4096
) -> dict[str, float]:
    """Statistics of an embedding that tell a collapsed or lopsided one from a good one.

    With u = x / |x| (the zero vector stays, as in `similarity.cosine`), and s the
    singular values of the embeddings as they are, p = s / sum s, d of them:

    - `mean_cosine`: of all pairs of rows.
    - `effective_rank`: exp(H(p)), from 1 to min(n, dim) (Roy and Vetterli, "The
      Effective Rank", EUSIPCO 2007).
    - `spectral_decay`: KL(uniform || p) = mean over i of log(1 / (d p_i)), from 0,
      which is all directions alike (rho of Roth et al., "Revisiting Training Strategies
      and Generalization Performance in Deep Metric Learning", ICML 2020, mode 1 of
      their code). A p_i below 1e-7, where float32 ends, counts as 1e-7.
    - `uniformity`: log of the mean of exp(-2 |u_i - u_j|^2) over pairs of rows, at most
      0; `alignment`: mean of |u_i - u_j|^2 over pairs of one class (Wang and Isola,
      "Understanding Contrastive Representation Learning through Alignment and
      Uniformity on the Hypersphere", ICML 2020). Lower is better.
    - `intra_distance`: mean over classes of the mean cosine distance of two rows;
      `inter_distance`: mean cosine distance of the classes' mean directions, both with
      u; `intra_inter_ratio` (Roth et al., as their code has it, where a class of one
      row counts as the widest; here it has no intra distance).
    - `norm_mean` and `norm_std` of |x|.
    - `collapsed`: 1 where `mean_cosine` is above 0.99 or `norm_mean` below 1e-4, the
      rule that stops training; else 0.

    All are exact and take O(n dim^2), save uniformity, which above `sample` rows is
    that of so many at random, drawn without replacement; memory is O(n dim).

    Args:
      embeddings: [n, dim], n at least 2.
      labels: [n] integers or strings.
      seed: of the sample.
      sample: rows for uniformity, at least 2.

    Returns:
      The above by name. What needs two rows of a class, two classes or a row other
      than zero is NaN without.

    Raises:
      ValueError: a wrong shape, or embeddings not finite.
      TypeError: labels are neither.
    """
    rows = checks.as_embeddings("embeddings", embeddings)
    labels = checks.as_labels("labels", labels, len(rows))
    checks.check_count("sample", sample, 2)
    if len(rows) < 2:
        raise ValueError("embeddings must have two rows or more, got one")
    x = np.array(rows, np.float64)  # a copy, that of the caller stays
    p = _spectrum(x)
    largest = np.abs(x).max(1)  # divided out first, lest squares overflow or vanish
    x /= np.where(largest > 0, largest, 1)[:, None]
    scaled = np.linalg.norm(x, axis=1)
    norms = largest * scaled
    x /= np.where(scaled > 0, scaled, 1)[:, None]
    unit = norms.max() or 1
    # From here on directions.
    mean_cosine = float(_mean_product(x.sum(0), np.square(x).sum(), len(x)))
    return {
        "mean_cosine": mean_cosine,
        "effective_rank": float(np.exp(-(p * np.log(np.where(p > 0, p, 1))).sum())),
        "spectral_decay": float(-np.log(len(p) * np.maximum(p, 1e-7)).mean()),
        "uniformity": _uniformity(x, np.random.default_rng(seed), sample),
        **_by_class(x, labels),
        "norm_mean": float(norms.mean()),
        "norm_std": float(unit * (norms / unit).std()),
        "collapsed": float(
            mean_cosine > _COLLAPSED_COSINE or norms.mean() < _COLLAPSED_LENGTH
        ),
    }


def _mean_product(total: np.ndarray, squares: Any, n: Any) -> Any:
    """Mean inner product of two different of n rows, from their sum and squares."""
    return (np.square(total).sum(-1) - squares) / (n * (n - 1))


def _spectrum(x: np.ndarray) -> np.ndarray:
    """Singular values over their sum; of the smaller Gram matrix, in float64."""
    largest = np.abs(x).max()
    if not largest:
        return np.full(min(x.shape), np.nan)
    x = x / largest
    gram = x.T @ x if len(x) > x.shape[1] else x @ x.T
    values = np.sqrt(np.maximum(np.linalg.eigvalsh(gram), 0))
    return values / values.sum()


def _uniformity(x: np.ndarray, rng: np.random.Generator, sample: int) -> float:
    if len(x) > sample:
        x = x[rng.choice(len(x), sample, replace=False)]
    n, total = len(x), 0.0
    squares = np.square(x).sum(1)
    for start in range(0, n, _ROWS):
        some = slice(start, start + _ROWS)
        squared = squares[some, None] + squares[None, :] - 2 * x[some] @ x.T
        total += float(np.exp(-2 * squared).sum())
    # Every row is at distance 0 from itself.
    return float(np.log((total - n) / (n * (n - 1))))


def _by_class(u: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    order = np.argsort(labels, kind="stable")
    _, starts, sizes = np.unique(labels[order], return_index=True, return_counts=True)
    totals = np.add.reduceat(u[order], starts, 0)
    squares = np.add.reduceat(np.square(u[order]).sum(1), starts)
    # The sum over ordered pairs of |a - b|^2 is 2 (m sum |a|^2 - |sum a|^2).
    apart = 2 * (sizes * squares - np.square(totals).sum(1)).sum()
    pairs = (sizes * (sizes - 1)).sum()
    several = sizes > 1
    cosines = _mean_product(totals[several], squares[several], sizes[several])
    intra = 1 - float(cosines.mean()) if several.any() else np.nan
    lengths = np.linalg.norm(totals, axis=1)
    means = totals / np.where(lengths > 0, lengths, 1)[:, None]
    inter = np.nan
    if len(means) > 1:
        total = _mean_product(means.sum(0), np.square(means).sum(), len(means))
        inter = 1 - float(total)
    return {
        "alignment": float(apart / pairs) if pairs else np.nan,
        "intra_distance": intra,
        "inter_distance": inter,
        "intra_inter_ratio": intra / inter if inter > 0 else np.nan,
    }
