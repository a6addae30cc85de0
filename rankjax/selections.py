"""Choosing the negatives that a triplet loss compares with one positive.

A *selection* maps a view of an anchor and one of its positives, and the loss's margin,
to a mask of negatives, for rules whose band depends on the positive. Settings are bound
by `functools.partial`. No gradient flows through a choice; of ties the lowest reference
index is taken. Random selections need the objective's `key`, and draw for each anchor
and positive by their numbers, so that blocks and devices cannot change the draw.

    >>> import functools, jax, rankjax
    >>> from rankjax import losses, mining
    >>> x = [[1.0, 0.0], [0.8, 0.6], [0.0, 1.0], [-0.6, 0.8]]
    >>> y = [0, 0, 1, 1]
    >>> nearest = functools.partial(
    ...     losses.triplet_loss, margin=0.5, selection=mining.hardest_negative
    ... )
    >>> round(float(rankjax.objective(nearest)(x, y)), 3)
    0.05
    >>> one = functools.partial(mining.random_negatives, count=1)
    >>> drawn = functools.partial(losses.triplet_loss, margin=0.0, selection=one)
    >>> float(rankjax.objective(drawn)(x, y, key=jax.random.key(0)))
    0.0
"""

import dataclasses
import functools
import typing
from collections.abc import Callable
from typing import Annotated, Any, Literal, TypeVar

import jax
import jax.numpy as jnp
from jax import lax

from rankjax import rows
from rankjax.registry import Count, Degrees, Number, Range, check_settings
from rankjax.rows import View

Selection = Callable[[View, Number | None], jax.Array]
"""Maps a view of an anchor and one of its positives, and the margin, to the mask
[reference] of chosen negatives."""

Distance = Literal["squared", "euclidean", "cosine"]
"""What the similarity is: minus the squared Euclidean distance, minus the Euclidean
distance, or the cosine (of which the distance of unit vectors is taken)."""
Chord = Annotated[Number, Range(above=0, most=2)]
"""A distance between points of the unit sphere."""
Dim = Annotated[int, Range(least=2)]

SELECTIONS: dict[str, Callable[..., jax.Array]] = {}
"""Every selection by its name."""

Function = TypeVar("Function", bound=Callable[..., Any])


def recorded(table: dict[str, Callable[..., Any]]) -> Callable[[Function], Function]:
    """Puts a rule into a table by its name; its settings are checked when called."""

    def put(function: Function) -> Function:
        @functools.wraps(function)
        def checked(*given: Any, **settings: Any) -> Any:
            if not given or not dataclasses.is_dataclass(given[0]):
                name = function.__name__
                raise TypeError(
                    f"{name} takes what an objective or a loss hands to it, not "
                    f"embeddings: give {name}, or functools.partial({name}, ...) with "
                    "settings, as mining or selection"
                )
            check_settings(function, settings)
            return function(*given, **settings)

        table[function.__name__] = checked
        return typing.cast(Function, checked)

    return put


@recorded(SELECTIONS)
def all_negatives(view: View, margin: Number | None) -> jax.Array:
    """Selects every negative."""
    del margin
    return view.negatives


@recorded(SELECTIONS)
def hardest_negative(view: View, margin: Number | None) -> jax.Array:
    """Selects the nearest negative, for every pair of anchor and positive."""
    del margin
    return rows.is_largest(lax.stop_gradient(view.row), view.negatives)


@recorded(SELECTIONS)
def hard(view: View, margin: Number | None) -> jax.Array:
    """Selects the negatives that are not beyond the positive: D(a, n) <= D(a, p).

    With `semi_hard` and `easy` these are all negatives, each once. No margin is needed.
    """
    del margin
    row, positive = lax.stop_gradient((view.row, view.positive))
    return view.negatives & (row >= positive)


@recorded(SELECTIONS)
def semi_hard(view: View, margin: Number | None) -> jax.Array:
    """Selects the negatives beyond the positive, but within the margin.

    With D the negated similarity, D(a, p) < D(a, n) < D(a, p) + margin. All negatives
    of the band count; pytorch-metric-learning does the same, TensorFlow does not (see
    `semi_hard_or_easiest`).

    Raises:
      ValueError: margin is None; a soft margin has no band.

    Source: Schroff, Kalenichenko, Philbin, "FaceNet", CVPR 2015.
    """
    row, positive, margin = _with_margin("semi_hard", view, margin)
    return view.negatives & (row < positive) & (row > positive - margin)


@recorded(SELECTIONS)
def easy(view: View, margin: Number | None) -> jax.Array:
    """Selects the negatives beyond the margin: D(a, n) >= D(a, p) + margin.

    The hinge is 0 there. They are for losses without one and for looking at a batch.

    Raises:
      ValueError: margin is None; a soft margin has no end.
    """
    row, positive, margin = _with_margin("easy", view, margin)
    return view.negatives & (row <= positive - margin)


@recorded(SELECTIONS)
def semi_hard_or_easiest(view: View, margin: Number | None) -> jax.Array:
    """Selects the nearest negative beyond the positive, else the farthest negative.

    One negative for every pair of anchor and positive. It may lie beyond the margin,
    where the hinge makes it 0, and when no negative is beyond the positive the easiest
    of the others is taken.

    Source: TensorFlow's `triplet_semihard_loss`.
    """
    del margin
    row, positive = lax.stop_gradient((view.row, view.positive))
    beyond = view.negatives & (row < positive)
    return jnp.where(
        beyond.any(),
        rows.is_largest(row, beyond),
        rows.is_smallest(row, view.negatives),
    )


@recorded(SELECTIONS)
def random_negatives(
    view: View, margin: Number | None, *, count: Count = 1
) -> jax.Array:
    """Selects `count` negatives at random without replacement, or all there are.

    Raises:
      ValueError: the objective was called without a key.
    """
    del margin
    key, row = _key("random_negatives", view), view.row
    draw = jax.random.uniform(key, row.shape, row.dtype)
    return lowest(draw, view.negatives, count)


@recorded(SELECTIONS)
def distance_weighted(
    view: View,
    margin: Number | None,
    *,
    dim: Dim | None = None,
    cutoff: Chord = 0.5,
    farthest: Chord = 1.4,
    distance: Distance = "squared",
) -> jax.Array:
    """Selects one negative at random, evenly over distances rather than over points.

    With d the distance of anchor and negative and q its density between random points
    of the unit sphere in `dim` dimensions:

        Pr(n | a) ~ min(1 / q(cutoff), 1 / q(d)), for d < farthest
        q(d) ~ d^(dim - 2) (1 - d^2 / 4)^((dim - 3) / 2)

    Args:
      view: an anchor's row; embeddings must have unit length.
      margin: not used.
      dim: of the sphere's space, at least 2; by default the embeddings'. In high
        dimensions 1 / q spans so many orders of magnitude that the draw is nearly
        always the nearest negative beyond `cutoff`.
      cutoff: distance at which the weight stops growing; up to sqrt(2), about.
      farthest: distance from which on negatives are never drawn, at most 2; an anchor
        with none nearer has no term. 2 leaves the cut out, as some found better.
      distance: what `view.row` holds; 'squared' is the triplet loss's own similarity.

    Raises:
      ValueError: the objective was called without a key; or dim is not known, where
        Pairs are made by hand.

    Source: Wu, Manmatha, Smola, Krähenbühl, "Sampling Matters in Deep Embedding
    Learning", ICCV 2017; both cuts as in known code. The authors' code draws from all
    rows alike, the anchor's own class included, where no negative is near enough.
    """
    del margin
    key, row = _key("distance_weighted", view), lax.stop_gradient(view.row)
    squared = _squared_distance(row, distance)
    dim = view.dim if dim is None else dim
    if dim is None:
        raise ValueError("distance_weighted needs dim, got None")
    weight = -log_distance_density(squared, dim)
    most = -log_distance_density(jnp.square(jnp.asarray(cutoff, row.dtype)), dim)
    gumbel = jax.random.gumbel(key, row.shape, row.dtype)
    near = view.negatives & (squared < farthest**2)
    return rows.is_largest(jnp.minimum(weight, most) + gumbel, near)


@recorded(SELECTIONS)
def angular(
    view: View,
    margin: Number | None,
    *,
    angle: Degrees = 20.0,
    distance: Distance = "squared",
) -> jax.Array:
    """Selects the negatives at which the triplet's angle exceeds a bound.

    With c the midpoint of anchor and positive, those where

        |a - p| > 2 tan(angle) |n - c|

    which Apollonius' theorem turns into pairwise distances alone. No margin is needed.

    Args:
      view: an anchor's row, with the positive's own row.
      margin: not used.
      angle: degrees, above 0 and below 90; 20 as in pytorch-metric-learning.
      distance: what `view.row` holds; 'squared' is the triplet loss's own similarity.

    Source: the angle is that of Wang, Zhou, Wen, Liu, Lin, "Deep Metric Learning with
    Angular Loss", ICCV 2017.
    """
    del margin
    anchor, positive, pair = (
        _squared_distance(lax.stop_gradient(x), distance)
        for x in (view.row, view.positive_row, view.positive)
    )
    t = jnp.square(jnp.tan(jnp.deg2rad(angle)))
    return view.negatives & ((1 + t) * pair > 2 * t * (anchor + positive))


def log_distance_density(squared: jax.Array, dim: int) -> jax.Array:
    """Log of q(d), up to a constant: how common a distance is on the unit sphere.

    Args:
      squared: squared distances; those outside (0, 4) count as next to its ends.
      dim: dimension of the space, at least 2.
    """
    squared = jnp.clip(squared, 1e-5, 4 - 1e-5)
    far = jnp.log1p(-squared / 4)
    return (dim - 2) / 2 * jnp.log(squared) + (dim - 3) / 2 * far


def lowest(values: jax.Array, where: jax.Array, count: int) -> jax.Array:
    """Mask of the `count` lowest values where the mask [reference] holds."""
    count = min(count, len(values))
    chosen = lax.top_k(jnp.where(where, -values, -jnp.inf), count)[1]
    return where & jnp.zeros_like(where).at[chosen].set(True)


def _squared_distance(similarity: jax.Array, distance: Distance) -> jax.Array:
    if distance == "cosine":
        return 2 - 2 * similarity
    return -similarity if distance == "squared" else jnp.square(similarity)


def _with_margin(
    name: str, view: View, margin: Number | None
) -> tuple[jax.Array, jax.Array, Any]:
    if margin is None:
        raise ValueError(f"{name} needs a margin, got None (the soft margin)")
    return lax.stop_gradient((view.row, view.positive, margin))


def _key(name: str, view: View) -> jax.Array:
    if view.key is None:
        raise ValueError(
            f"{name} draws at random: it needs key=jax.random.key(seed), a new one in "
            "each step, and Pairs.anchor_index where Pairs are made by hand"
        )
    return view.key
