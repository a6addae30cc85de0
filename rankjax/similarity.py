"""Similarities between rows of embeddings. Higher is always closer.

A distance appears negated, so that every loss and every miner reads the same way for
all of them. Results are at least float32 whatever the embeddings are, and matrix
products keep full float32 precision on accelerators that would round them by default:
next to the network they cost nothing, and a threshold decides on them.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

Similarity = Callable[[jax.Array, jax.Array], jax.Array]
"""Maps anchors [anchor, dim] and references [reference, dim] to [anchor, reference]."""

_TINY = 1e-6  # what float32 does not resolve of numbers about 1


def dot(anchors: jax.Array, references: jax.Array) -> jax.Array:
    """Inner products, [anchor, reference]; unbounded and sensitive to norms."""
    if anchors is references:
        return _dot_with_itself(at_least_float32(anchors))
    return _dot(at_least_float32(anchors), at_least_float32(references))


def _dot(anchors: jax.Array, references: jax.Array) -> jax.Array:
    return lax.dot_general(
        anchors,
        references,
        (((1,), (1,)), ((), ())),
        precision=lax.Precision.HIGHEST,
    )


@jax.custom_jvp
def _dot_with_itself(x: jax.Array) -> jax.Array:
    """Inner products of rows with each other, whose gradient takes one product."""
    return _dot(x, x)


@_dot_with_itself.defjvp
def _dot_with_itself_jvp(
    primals: tuple[jax.Array], tangents: tuple[jax.Array]
) -> tuple[jax.Array, jax.Array]:
    half = _dot(tangents[0], primals[0])
    # The gradient is (G + G^T) x. XLA computes G twice, once for either, unless it is
    # the result of a branch; it does not see through the barrier which one is taken.
    # What is taken is no number of the batch: `vmap` would make a selection of it.
    taken = lax.optimization_barrier(jnp.array(True))
    both = lax.cond(taken, lambda x: x, lambda x: x * jnp.nan, half + half.T)
    return _dot_with_itself(*primals), both


def cosine(anchors: jax.Array, references: jax.Array) -> jax.Array:
    """Cosines, [anchor, reference] in [-1, 1]: 1 aligned, 0 orthogonal, -1 opposite.

    The zero vector has cosine 0 with everything and gets a finite gradient.
    """
    return _of_products(_COSINE, anchors, references)


def complex_angle(anchors: jax.Array, references: jax.Array) -> jax.Array:
    """AnglE's similarity of rows as complex vectors, [anchor, reference].

        |sum_k Re(q_k) + Im(q_k)|,   q_k = a_k conj(r_k) / (|a| |r|)

    The first half of a row has the real parts and the second the imaginary ones; an odd
    last number is real. With `cosent_loss` at its scale of 20 it is the angle part of
    AnglE. Of equal rows it is 1, and not the largest: that is sqrt(2), where the phases
    of a row are all 45 degrees ahead. Hence it is for training beside a cosine, and not
    for search.

    Source: Li, Li, "AnglE-optimized Text Embeddings", ACL 2024, as in their code.
    """
    odd = [(0, 0), (0, anchors.shape[-1] % 2)]
    anchors, references = (jnp.pad(normalize(x), odd) for x in (anchors, references))
    real, imaginary = jnp.split(references, 2, -1)
    turned = jnp.concatenate([real - imaginary, real + imaginary], -1)
    return jnp.abs(dot(anchors, turned))


def negative_squared_euclidean(anchors: jax.Array, references: jax.Array) -> jax.Array:
    """-|a - r|^2, [anchor, reference], at most 0.

    It is computed from inner products about the references' mean, which loses less to
    cancellation than products about the origin; still, two points nearer to each other
    than about 3e-4 of their distance from that mean are not resolved in float32, whose
    squares need differences between about 1e-18 and 1e19.
    """
    return _of_products(_SQUARED, anchors, references)


def negative_euclidean(anchors: jax.Array, references: jax.Array) -> jax.Array:
    """-|a - r|, [anchor, reference], at most 0.

    Coincident points get gradient zero, where the distance itself has none. In float32
    distances are exact to rounding from about 1e-18 to 1e19: they pass through squares.
    """
    return _of_products(_EUCLIDEAN, anchors, references)


def negative_snr_distance(anchors: jax.Array, references: jax.Array) -> jax.Array:
    """-var(r - a) / var(a), [anchor, reference], at most 0; variances over dimensions.

    The inverse of a signal-to-noise ratio with the anchor as signal, hence not
    symmetric. An anchor whose entries are all equal, or below 1e-6 of the references'
    largest, carries no signal: its row is 0.

    Source: Yuan, Deng, Tang, Tang, Chen, "Signal-to-Noise Ratio: A Robust Distance
    Metric for Deep Metric Learning", CVPR 2019.
    """
    anchors, references = at_least_float32(anchors), at_least_float32(references)
    # Neither squares nor their reciprocals may leave float32, however long rows are.
    largest = jnp.max(jnp.abs(jnp.where(jnp.isfinite(references), references, 0)))
    unit = lax.stop_gradient(largest)
    anchors, references = _over(anchors, unit), _over(references, unit)
    # A mean is rounded in proportion to the entries, and what it leaves is no signal.
    resolved = _TINY**2 * (1 + jnp.sum(anchors * anchors, -1)[:, None])
    anchors, references = (x - x.mean(-1, keepdims=True) for x in (anchors, references))
    signal = jnp.sum(anchors * anchors, -1)[:, None]
    some = ~(signal <= resolved)
    noise = negative_squared_euclidean(anchors, references)
    return jnp.where(some, noise / jnp.where(some, signal, 1), 0)


def negative_normalized_euclidean(
    anchors: jax.Array, references: jax.Array
) -> jax.Array:
    """-|a/|a| - r/|r||, [anchor, reference] in [-2, 0]; -sqrt(2 - 2 cosine).

    Coincident directions get gradient zero, where the distance itself has none.
    """
    return _of_products(_NORMALIZED, anchors, references)


def negative_lp(
    anchors: jax.Array, references: jax.Array, *, p: float | jax.Array = 1.0
) -> jax.Array:
    """-(sum_k |a_k - r_k|^p)^(1/p), [anchor, reference], at most 0.

    One anchor at a time, and again in the backward pass: memory for [reference, dim],
    never for all three axes. The gradient is zero in coordinates that coincide.

    Args:
      anchors: [anchor, dim].
      references: [reference, dim].
      p: at least 1 and finite; may be traced.

    Raises:
      ValueError: p is known and out of range.
    """
    # In NumPy: of a known number JAX makes a traced one, inside of another's jit.
    if not isinstance(p, jax.core.Tracer) and not 1 <= np.asarray(p) < np.inf:
        raise ValueError(f"p must be at least 1 and finite, got {p}")
    anchors, references = at_least_float32(anchors), at_least_float32(references)
    p = jnp.asarray(p, anchors.dtype)

    @jax.checkpoint
    def row(anchor: jax.Array) -> jax.Array:
        difference = jnp.abs(anchor[None, :] - references)
        # Divided out first, so that powers neither overflow nor all vanish.
        largest = lax.stop_gradient(jnp.max(difference, -1))
        apart = largest != 0
        share = _over(difference, largest[:, None])
        some = share > 0
        powers = jnp.where(some, jnp.where(some, share, 1) ** p, 0)
        sums = jnp.where(apart, jnp.sum(powers, -1), 1)
        return -jnp.where(apart, largest * sums ** (1 / p), 0)

    return lax.map(row, anchors)


def negative_hyperbolic(
    anchors: jax.Array,
    references: jax.Array,
    *,
    curvature: float | jax.Array = 0.1,
    clip: float = 2.3,
) -> jax.Array:
    """Minus the geodesic distance in the Poincare ball, [anchor, reference], at most 0.

    Rows are clipped to a length and mapped to the ball of curvature -c by the
    exponential map at the origin, x -> tanh(sqrt(c) |x|) / sqrt(c) x / |x|. There

        D(x, y) = 2 / sqrt(c) artanh(sqrt(c) |-x (+) y|)

    with Moebius addition (+), which equals

        D(x, y) = 2 / sqrt(c) arsinh(sqrt(c) |x - y| f(x) f(y)),
        f(x) = 1 / sqrt(1 - c |x|^2) = cosh(sqrt(c) |x before the map|),

    a function of Euclidean distances: no [anchor, reference, dim], and no pole at the
    boundary. As c falls to 0 it tends to 2 |x - y|.

    Args:
      anchors: [anchor, dim].
      references: [reference, dim].
      curvature: c, above 0; may be traced. sqrt(c) times `clip` should stay below 40,
        where float32 ends.
      clip: greatest length before the map, above 0.

    Source: Ermolov, Mirvakhabova, Khrulkov, Sebe, Oseledets, "Hyperbolic Vision
    Transformers: Combining Improvements in Metric Learning", CVPR 2022; c = 0.1 and
    clip = 2.3 are those of its code, which adds 1e-5 in denominators and keeps artanh's
    argument 1e-5 below 1.

    Raises:
      ValueError: curvature is known and not above 0, or clip is not.
    """
    for name, value in (("curvature", curvature), ("clip", clip)):
        if not isinstance(value, jax.core.Tracer) and not np.asarray(value) > 0:
            raise ValueError(f"{name} must be above 0, got {value}")
    anchors, references = at_least_float32(anchors), at_least_float32(references)
    root = jnp.sqrt(jnp.asarray(curvature, anchors.dtype))
    (x, f), (y, g) = (_to_ball(z, root, clip) for z in (anchors, references))
    distance = -negative_euclidean(x, y)
    return -2 / root * jnp.arcsinh(root * distance * f[:, None] * g[None, :])


def _to_ball(
    embeddings: jax.Array, root: jax.Array, clip: float
) -> tuple[jax.Array, jax.Array]:
    """Points [row, dim] of the ball, and their f [row]; root is sqrt(c)."""
    length = lengths(embeddings)
    clipped = root * jnp.minimum(length, clip)
    some = (length > _TINY)[:, None]
    inside = (jnp.tanh(clipped) / root)[:, None] * normalize(embeddings)
    return jnp.where(some, inside, embeddings), jnp.cosh(clipped)


def lengths(embeddings: jax.Array) -> jax.Array:
    """Euclidean lengths of rows, [row]; 0 with gradient zero at the zero vector."""
    embeddings = at_least_float32(embeddings)
    largest = lax.stop_gradient(jnp.max(jnp.abs(embeddings), -1))
    some = largest != 0
    scaled = _over(embeddings, largest[:, None])
    squares = jnp.where(some, jnp.sum(scaled * scaled, -1), 1)
    return jnp.where(some, largest * jnp.sqrt(squares), 0)


def normalize(embeddings: jax.Array) -> jax.Array:
    """Rows scaled to unit length, [row, dim].

    The largest entry is divided out first, so that squares neither overflow nor vanish.
    Only the zero vector has no direction: it stays what it is, with gradient 1.
    """
    embeddings = at_least_float32(embeddings)
    largest = lax.stop_gradient(jnp.max(jnp.abs(embeddings), -1, keepdims=True))
    directed = largest != 0  # also where it is not a number
    scaled = _over(embeddings, largest)
    squares = jnp.sum(scaled * scaled, -1, keepdims=True)
    return scaled * lax.rsqrt(jnp.where(directed, squares, 1))


def _over(values: jax.Array, largest: jax.Array) -> jax.Array:
    """Values over the largest of them, from the smallest normal numbers to the largest
    finite ones; over 1 where it is 0."""
    # XLA multiplies by the reciprocal, which vanishes for the largest numbers.
    less = jnp.where(largest > 1, 1 / 16, 1).astype(values.dtype)
    return values * less / jnp.where(largest != 0, largest * less, 1)


def apply(
    function: Similarity,
    anchors: jax.Array,
    references: jax.Array,
    *,
    name: str = "similarity",
) -> jax.Array:
    """Computes a function of pairs, [anchor, reference], that a user may have written.

    Raises:
      ValueError: the function returns another shape.
      TypeError: it is none, or asks NumPy for what is computed only later.
    """
    if not callable(function):
        raise TypeError(
            f"{name} must be a function, such as rankjax.similarity.cosine, got "
            f"{function!r}"
        )
    try:
        values = function(anchors, references)
    except jax.errors.TracerArrayConversionError as error:
        raise TypeError(
            f"{name} must compute by jax.numpy and not by NumPy; an array that it "
            "looks rows up in must be jnp.asarray(array)"
        ) from error
    shape = len(anchors), len(references)
    if np.shape(values) != shape:
        raise ValueError(
            f"{name} must return [anchor, reference], here {shape}, got "
            f"{np.shape(values)}"
        )
    # Counts and truth values are numbers, too.
    floating = jnp.issubdtype(values.dtype, jnp.floating)
    return values if floating else values.astype(jnp.float32)


def at_least_float32(embeddings: jax.Array) -> jax.Array:
    """Half precision raised to float32; float32 and float64 as they are."""
    embeddings = jnp.asarray(embeddings)
    if embeddings.dtype == jnp.float64:
        return embeddings
    return embeddings.astype(jnp.float32)


@dataclasses.dataclass(frozen=True)
class Products:
    """A similarity that is a function of inner products, pair by pair.

    Attributes:
      prepare: maps embeddings [row, dim] to the vectors that are multiplied.
      value: maps the inner product and the squared lengths of two vectors to their
        similarity.
      is_distance: whether `value` depends on |a|^2 + |r|^2 - 2 a.r alone. The vectors
        are then taken about the references' mean.
    """

    prepare: Callable[[jax.Array], jax.Array]
    value: Callable[[jax.Array, jax.Array, jax.Array], jax.Array]
    is_distance: bool = False

    def vectors(self, embeddings: jax.Array, centre: jax.Array | None) -> jax.Array:
        """The vectors that are multiplied; `centre` from `mean` where asked for."""
        prepared = self.prepare(embeddings)
        return prepared if centre is None else prepared - centre

    def mean(self, references: jax.Array) -> jax.Array | None:
        """What is subtracted from vectors, [1, dim], a constant; or None."""
        if not self.is_distance:
            return None
        vectors = lax.stop_gradient(self.prepare(references))
        finite = jnp.isfinite(vectors).all(-1, keepdims=True)
        return jnp.mean(jnp.where(finite, vectors, 0), 0, keepdims=True)


def squared_lengths(vectors: jax.Array) -> jax.Array:
    """[row] sums of squares."""
    return jnp.sum(vectors * vectors, -1)


def _of_products(
    similarity: Products, anchors: jax.Array, references: jax.Array
) -> jax.Array:
    centre, same = similarity.mean(references), anchors is references
    anchors = similarity.vectors(anchors, centre)
    references = anchors if same else similarity.vectors(references, centre)
    return similarity.value(
        dot(anchors, references),
        squared_lengths(anchors)[:, None],
        squared_lengths(references)[None, :],
    )


def _minus_squared(product: jax.Array, a: jax.Array, r: jax.Array) -> jax.Array:
    return -jnp.maximum(a - 2 * product + r, 0)


def _minus_distance(product: jax.Array, a: jax.Array, r: jax.Array) -> jax.Array:
    squared = -_minus_squared(product, a, r)
    coincide = squared <= jnp.finfo(squared.dtype).tiny  # not a number stays so
    return -jnp.where(coincide, 0, jnp.sqrt(jnp.where(coincide, 1, squared)))


_DOT = Products(at_least_float32, lambda product, a, r: product)
_COSINE = Products(normalize, lambda product, a, r: product)
_SQUARED = Products(at_least_float32, _minus_squared, is_distance=True)
_EUCLIDEAN = Products(at_least_float32, _minus_distance, is_distance=True)
_NORMALIZED = Products(normalize, _minus_distance, is_distance=True)

PRODUCTS: dict[Similarity, Products] = {
    cosine: _COSINE,
    dot: _DOT,
    negative_squared_euclidean: _SQUARED,
    negative_euclidean: _EUCLIDEAN,
    negative_normalized_euclidean: _NORMALIZED,
}
"""The similarities that are functions of inner products."""

SIMILARITIES: dict[str, Similarity] = {
    function.__name__: function
    for function in (
        cosine,
        dot,
        negative_euclidean,
        negative_squared_euclidean,
        negative_normalized_euclidean,
        negative_lp,
        negative_snr_distance,
        negative_hyperbolic,
    )
}
"""Every similarity by its name; settings are bound with `functools.partial`."""
