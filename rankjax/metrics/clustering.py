"""k-means on devices, and how far a clustering agrees with classes."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from scipy import special

from rankjax import inputs
from rankjax.blocks import in_blocks, pad, scan_blocks
from rankjax.metrics import checks
from rankjax.similarity import at_least_float32, dot, squared_lengths

_GROUP = 256  # points drawn from at once
_SAME = 1e-6  # squared distances below it, over squared lengths, are rounding


class Clusters(NamedTuple):
    """Attributes: assignment [n] int32, centres [k, dim], and the inertia, the sum of
    squared distances of points to the centres of their clusters."""

    assignment: np.ndarray
    centres: np.ndarray
    inertia: float


def kmeans(
    embeddings: Any,
    *,
    k: int,
    seed: int,
    restarts: int = 4,
    trials: int | None = None,
    iterations: int = 50,
    block: int = 256,
) -> Clusters:
    """The best of several runs of Lloyd's algorithm from k-means++ centres.

    Distances are Euclidean: for spherical clusters normalise the rows beforehand. The
    first centre is a point at random; for each next one a few points are drawn, each in
    proportion to its squared distance from the nearest centre so far, and that is taken
    which leaves the least inertia (Arthur and Vassilvitskii, "k-means++: The Advantages
    of Careful Seeding", SODA 2007, where `trials` of 1 is the analysed algorithm, and
    more are advised). Where all points are centres already, centres repeat.

    Then points go to the nearest centre, of equally near ones that with the lower
    number, and centres to the mean of their points, until no point moves. The first
    cluster left empty takes the point farthest from its centre, the second the second
    farthest, and so on; or stays where it was, and empty, where that point lies on its
    own centre. With fewer distinct points than k clusters, some are so.

    All restarts draw centres together, one matrix product per centre; Lloyd's
    iterations are one restart after another. COST

    Args:
      embeddings: [n, dim].
      k: clusters, from 1 to n.
      seed: of the random choices; the result is the same on the same platform.
      restarts: runs, of which that with the least inertia is returned.
      trials: points drawn for each centre; 2 + floor(log k) by default.
      iterations: of Lloyd's algorithm per run, at most.
      block: points at a time; memory is O((block + dim) k + (dim + restarts trials) n).

    Raises:
      ValueError: a number out of range, or embeddings not finite.
    """
    points = checks.as_finite(inputs.as_rows("", embeddings, None, None).embeddings)
    n = len(points)
    if not 1 <= k <= n:
        raise ValueError(f"k must be from 1 to {n} for {n} embeddings, got {k}")
    trials = 2 + int(np.log(k)) if trials is None else trials
    for name, value in (
        ("restarts", restarts),
        ("trials", trials),
        ("iterations", iterations),
        ("block", block),
    ):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    # About their mean and below 1, where squares neither overflow nor cancel much.
    points = at_least_float32(points)
    largest = jnp.max(jnp.abs(points))
    scale = jnp.where(largest > 0, largest, 1)
    centre = (points / scale).mean(0)
    scaled = points / scale - centre[None, :]
    first = _plus_plus(scaled, jax.random.key(seed), k, restarts, trials)
    runs = (
        _lloyd(scaled, first[r], iterations, min(block, n)) for r in range(restarts)
    )
    assignment, centres, _ = min(runs, key=lambda run: float(run[2]))
    centres = (centres + centre[None, :]) * scale
    inertia = _inertia(points, centres, assignment, min(block, n))
    return Clusters(np.asarray(assignment), np.asarray(centres), inertia)


@functools.partial(jax.jit, static_argnums=(2, 3, 4))
def _plus_plus(
    points: jax.Array, key: jax.Array, k: int, restarts: int, trials: int
) -> jax.Array:
    """The numbers [restart, k] of the points to start from."""
    n = len(points)
    lengths = squared_lengths(points)
    run = jnp.arange(restarts, dtype=jnp.int32)

    def choose(i: jax.Array, state: Any) -> Any:
        weight, distance, chosen = state
        drawn = _draw(weight, trials, jax.random.fold_in(key, i))
        flat = drawn.reshape(-1)
        sums = lengths[flat][:, None] + lengths[None, :]
        squared = sums - 2 * dot(points[flat], points)
        squared = jnp.where(squared > _SAME * sums, squared, 0)
        left = jnp.minimum(distance[:, None, :], squared.reshape(*drawn.shape, n))
        best = jnp.argmin(left.sum(-1), -1)
        distance = left[run, best]
        weight = jnp.pad(distance, [(0, 0), (0, -n % _GROUP)])
        return weight, distance, chosen.at[:, i].set(drawn[run, best])

    far = jnp.full((restarts, n), jnp.inf, points.dtype)
    alike = jnp.pad(jnp.ones_like(far), [(0, 0), (0, -n % _GROUP)])
    start = (alike, far, jnp.zeros((restarts, k), jnp.int32))
    return lax.fori_loop(0, k, choose, start)[2]


def _draw(weight: jax.Array, draws: int, key: jax.Array) -> jax.Array:
    """Columns [row, draw] in proportion to the weights [row, column].

    Column 0 where all weights are 0. First a group of columns is drawn, then one of
    them, so that no sum is over many numbers.
    """
    groups = weight.reshape(len(weight), -1, _GROUP)
    of_group, of_column = jax.random.split(key)
    group = _draw_few(jnp.repeat(groups.sum(-1)[:, None, :], draws, 1), of_group)
    row = jnp.arange(len(weight), dtype=jnp.int32)[:, None]
    return group * _GROUP + _draw_few(groups[row, group], of_column)


def _draw_few(weight: jax.Array, key: jax.Array) -> jax.Array:
    below = jnp.cumsum(weight, -1)
    total = below[..., -1:]
    at = jax.random.uniform(key, total.shape, weight.dtype) * total
    # Rounding up to the total must not choose a column of weight zero.
    at = jnp.minimum(at, jnp.nextafter(total, jnp.zeros_like(total)))
    column = jnp.sum(below <= at, -1, dtype=jnp.int32)
    return jnp.where(total[..., 0] > 0, column, 0)


@functools.partial(jax.jit, static_argnums=(2, 3))
def _lloyd(
    points: jax.Array, first: jax.Array, iterations: int, block: int
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Assignment [n], centres [k, dim] and inertia of one run."""
    n, k = len(points), len(first)

    def visit(state: Any) -> Any:
        i, centres, before, _ = state
        assignment, distance = _assign(points, centres, block)
        sums, counts = _sums(points, assignment, k, block)
        empty = counts == 0
        mean = sums / jnp.maximum(counts, 1)[:, None].astype(sums.dtype)
        # The first empty cluster takes the farthest point, the second the next.
        farthest, point = lax.top_k(distance, k)
        place = jnp.where(empty, jnp.cumsum(empty) - 1, 0)
        other = jnp.where(farthest[place][:, None] > 0, points[point[place]], centres)
        centres = jnp.where(empty[:, None], other, mean)
        return i + 1, centres, assignment, jnp.any(assignment != before)

    start = (0, points[first], jnp.full(n, -1, jnp.int32), jnp.bool_(True))
    _, centres, _, _ = lax.while_loop(
        lambda state: (state[0] < iterations) & state[3], visit, start
    )
    assignment, distance = _assign(points, centres, block)
    return assignment, centres, distance.sum()


def _assign(
    points: jax.Array, centres: jax.Array, block: int
) -> tuple[jax.Array, jax.Array]:
    """The nearest centre [n] of each point, and the squared distance [n] to it."""
    half = squared_lengths(centres)[None, :] / 2
    number = jnp.arange(len(centres), dtype=jnp.int32)[None, :]

    def some(x: jax.Array) -> tuple[jax.Array, jax.Array]:
        score = dot(x, centres) - half
        # The same as argmax, in a third of its time on CPU.
        best = jnp.where(
            score == score.max(-1, keepdims=True), number, len(centres) - 1
        )
        nearest = best.min(-1)
        return nearest, squared_lengths(x - centres[nearest])

    return in_blocks(some, block, points)


def _sums(
    points: jax.Array, assignment: jax.Array, k: int, block: int
) -> tuple[jax.Array, jax.Array]:
    """Sums [k, dim] and numbers [k] of points per cluster, always in the same order.

    Off the CPU, where a scatter adds in any order, by products with one-hot rows.
    """
    counts = jnp.zeros(k, jnp.int32).at[assignment].add(1)
    if jax.default_backend() == "cpu":
        return jax.ops.segment_sum(points, assignment, k), counts

    def some(total: jax.Array, x: jax.Array, cluster: jax.Array) -> tuple[Any, None]:
        one_hot = jax.nn.one_hot(cluster, k, dtype=x.dtype, axis=0)
        return total + jnp.matmul(one_hot, x, precision=lax.Precision.HIGHEST), None

    # Rows that fill up the last block are of no cluster.
    rows = -len(points) % block
    filled = jnp.pad(assignment, (0, rows), constant_values=k)
    zeros = jnp.zeros((k, points.shape[1]), points.dtype)
    return scan_blocks(some, block, zeros, pad(points, rows), filled)[0], counts


def _inertia(
    points: jax.Array, centres: jax.Array, assignment: jax.Array, block: int
) -> float:
    total = 0.0
    for start in range(0, len(points), block):
        part = slice(start, start + block)
        own = np.asarray(centres[assignment[part]], np.float64)
        total += float(np.square(np.asarray(points[part], np.float64) - own).sum())
    return total


def clustering_scores(labels: Any, clusters: Any) -> dict[str, float]:
    """Agreement of a clustering with classes, all 1 where they are the same.

    With n_ij points of class i in cluster j, a_i and b_j the sizes, p = n_ij / n and so
    on, mutual information I = sum p_ij log(p_ij / (p_i p_j)) and entropies H:

    - `nmi`: 2 I / (H(labels) + H(clusters)).
    - `ami`: (I - E I) / ((H(labels) + H(clusters)) / 2 - E I) with the exact
      expectation E over all labellings of the same sizes (Vinh, Epps, Bailey,
      "Information Theoretic Measures for Clusterings Comparison", JMLR 2010).
    - `ari`: the share of pairs of points on which both agree, adjusted for chance
      likewise (Hubert and Arabie, Journal of Classification 1985).
    - `f1`: of pairs, 2 P R / (P + R), with P the share of one class among pairs in one
      cluster and R the share in one cluster among pairs of one class (Oh Song et al.,
      "Deep Metric Learning via Lifted Structured Feature Embedding", CVPR 2016).

    NMI grows with the number of clusters whatever their quality; AMI and ARI do not.
    One class in one cluster scores 1, and either alone an NMI and AMI of 0. Values are
    those of scikit-learn, but no table of classes by clusters is built.

    Args:
      labels: [n] integers of any size.
      clusters: [n] integers, or what `kmeans` returned.

    Raises:
      ValueError: a wrong length, or none at all.
      TypeError: labels or clusters are not integers.
    """
    if isinstance(clusters, Clusters):
        clusters = clusters.assignment
    labels = checks.as_labels("labels", labels)
    clusters = checks.as_labels("clusters", clusters, len(labels))
    n = len(labels)
    _, row, a = np.unique(labels, return_inverse=True, return_counts=True)
    _, column, b = np.unique(clusters, return_inverse=True, return_counts=True)
    cells, joint = np.unique(row * len(b) + column, return_counts=True)
    row, column = np.divmod(cells, len(b))
    return {
        **_information(joint, a[row], b[column], a, b, n),
        **_pairs(joint, a, b, n),
    }


def _information(
    joint: np.ndarray,
    of_class: np.ndarray,
    of_cluster: np.ndarray,
    a: np.ndarray,
    b: np.ndarray,
    n: int,
) -> dict[str, float]:
    if len(a) == len(b) == 1 or len(joint) == len(a) == len(b):
        return {"nmi": 1.0, "ami": 1.0}
    if len(a) == 1 or len(b) == 1:
        return {"nmi": 0.0, "ami": 0.0}
    ratio = np.log(joint) - np.log(of_class) - np.log(of_cluster) + np.log(n)
    information = max(float(joint @ ratio) / n, 0.0)
    mean = (_entropy(a, n) + _entropy(b, n)) / 2
    expected = _expected_information(a, b, n)
    # Both may vanish, where no labelling of these sizes is better than another.
    least = np.finfo(float).eps
    above, most = (
        np.copysign(max(abs(x), least), x)
        for x in (information - expected, mean - expected)
    )
    nmi = information / mean if information > least else 0.0
    return {"nmi": nmi, "ami": float(above / most)}


def _entropy(sizes: np.ndarray, n: int) -> float:
    return float(sizes @ (np.log(n) - np.log(sizes))) / n


def _expected_information(a: np.ndarray, b: np.ndarray, n: int) -> float:
    """Sum over classes, clusters and n_ij, with n_ij hypergeometric."""
    total = 0.0
    b, clusters = np.unique(b, return_counts=True)
    factorial = special.gammaln(np.arange(n + 1) + 1.0)
    for size, classes in zip(*np.unique(a, return_counts=True), strict=True):
        low, high = np.maximum(1, size + b - n), np.minimum(size, b)
        numbers = high - low + 1
        which = np.repeat(np.arange(len(b)), numbers)
        joint = np.arange(len(which)) + (low - np.cumsum(numbers) + numbers)[which]
        other = b[which]
        log_probability = (
            (factorial[b] + factorial[n - b])[which]
            + (factorial[size] + factorial[n - size] - factorial[n])
            - factorial[joint]
            - factorial[size - joint]
            - factorial[other - joint]
            - factorial[n - size - other + joint]
        )
        ratio = np.log(joint / other * (n / size))
        terms = joint / n * ratio * np.exp(log_probability)
        total += classes * float(terms @ clusters[which])
    return total


def _pairs(joint: np.ndarray, a: np.ndarray, b: np.ndarray, n: int) -> dict[str, float]:
    """Counts of pairs as Python's integers, whose products do not overflow."""
    both, one_class, one_cluster, every = (
        int((x * (x - 1) // 2).sum()) for x in (joint, a, b, np.array([n]))
    )
    apart = every - one_class - one_cluster + both
    only_class, only_cluster = one_class - both, one_cluster - both
    if not only_class and not only_cluster:
        return {"ari": 1.0, "f1": 1.0}
    agreement = 2 * (both * apart - only_class * only_cluster)
    most = one_class * (only_class + apart) + one_cluster * (only_cluster + apart)
    return {"ari": agreement / most, "f1": 2 * both / (one_class + one_cluster)}
