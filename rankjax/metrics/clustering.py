"""k-means on devices."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from rankjax.blocks import sum_blocks
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
    iterations are one restart after another. With 60,502 points of dim 128 and 11,316
    clusters one restart takes about 90 CPU seconds; with 10,000 points and 100 clusters
    four take 0.4.

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
    points = jnp.asarray(checks.as_embeddings("embeddings", embeddings))
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

    return sum_blocks(lambda x: ((), some(x)), block, points)[1]


def _sums(
    points: jax.Array, assignment: jax.Array, k: int, block: int
) -> tuple[jax.Array, jax.Array]:
    """Sums [k, dim] and numbers [k] of points per cluster, always in the same order.

    Off the CPU, where a scatter adds in any order, by products with one-hot rows.
    """
    counts = jnp.zeros(k, jnp.int32).at[assignment].add(1)
    if jax.default_backend() == "cpu":
        return jax.ops.segment_sum(points, assignment, k), counts

    def some(rows: tuple[jax.Array, ...]) -> tuple[jax.Array, None]:
        x, cluster, real = rows
        one_hot = jax.nn.one_hot(jnp.where(real, cluster, k), k, dtype=x.dtype, axis=0)
        return jnp.matmul(one_hot, x, precision=lax.Precision.HIGHEST), None

    rows = points, assignment, jnp.ones(len(points), bool)
    return sum_blocks(some, block, rows)[0], counts


def _inertia(
    points: jax.Array, centres: jax.Array, assignment: jax.Array, block: int
) -> float:
    total = 0.0
    for start in range(0, len(points), block):
        part = slice(start, start + block)
        own = np.asarray(centres[assignment[part]], np.float64)
        total += float(np.square(np.asarray(points[part], np.float64) - own).sum())
    return total
