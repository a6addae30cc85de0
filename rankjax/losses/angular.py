"""Angular losses: a bound on the angle at the negative."""

import jax
import jax.numpy as jnp

from rankjax import rows
from rankjax.losses.n_pairs import Direction, Negatives, n_pairs_loss
from rankjax.pairs import Pairs
from rankjax.terms import Terms


def angular_loss(pairs: Pairs, *, angle: float | jax.Array = 45.0) -> Terms:
    """Angular loss, one term per anchor and positive.

    With t = tan(angle)^2 and S an inner product (the cosine by default):

        log(1 + sum_n exp(4 t (S(a, n) + S(p, n)) - 2 (1 + t) S(a, p)))

    Args:
      pairs: similarities [anchor, reference] and masks, with `reference_similarity`.
      angle: degrees, above 0 and below 90. The paper finds 36 to 55 to work. Below 30
        the loss of a collapsed unit-length embedding is under that of N-pairs, log N:
        collapse is rewarded.

    Returns:
      Terms, one per anchor and positive where the anchor has a negative. Every row of
      another class is a negative; known code for batches of pairs takes only the other
      pairs' positives.

    Source: Wang, Zhou, Wen, Liu, Lin, "Deep Metric Learning with Angular Loss",
    ICCV 2017. The exponent drops the norms, so that it equals the hinge's argument
    plus a constant for unit length only: the *angle* does not depend on the scale of
    the embeddings, but the value of this loss does.
    """
    t = _squared_tangent(angle)

    def terms(
        row: jax.Array,
        negative: jax.Array,
        positive: jax.Array,
        positive_row: jax.Array,
    ) -> Terms:
        exponent = 4 * t * (row + positive_row) - 2 * (1 + t) * positive
        value = rows.log_one_plus_sum_exp(exponent, negative)
        return Terms.of(value[None], negative.any()[None])

    return rows.per_positive(pairs, terms, positive_rows=True)


def angular_hinge_loss(pairs: Pairs, *, angle: float | jax.Array = 45.0) -> Terms:
    """Angular loss as a hinge, one term per triplet.

    With t = tan(angle)^2 and c the midpoint of anchor and positive:

        [|a - p|^2 - 4 t |n - c|^2]+

    which Apollonius' theorem turns into pairwise squared distances D^2 alone:

        [(1 + t) D^2(a, p) - 2 t (D^2(a, n) + D^2(p, n))]+

    A term is above zero exactly when the angle at n exceeds `angle`.

    Args:
      pairs: minus squared Euclidean distances [anchor, reference] and masks, with
        `reference_similarity`.
      angle: degrees, above 0 and below 90.

    Returns:
      Terms, one term per triplet. Rotation and translation change nothing; scaling the
      embeddings by s scales the value by s^2 and leaves the active triplets the same.

    Source: Wang, Zhou, Wen, Liu, Lin, "Deep Metric Learning with Angular Loss",
    ICCV 2017.
    """
    t = _squared_tangent(angle)

    def terms(
        row: jax.Array,
        negative: jax.Array,
        positive: jax.Array,
        positive_row: jax.Array,
    ) -> Terms:
        argument = 2 * t * (row + positive_row) - (1 + t) * positive
        return Terms.of(jax.nn.relu(argument), negative)

    return rows.per_positive(pairs, terms, positive_rows=True)


def n_pairs_angular_loss(
    pairs: Pairs,
    *,
    angle: float | jax.Array = 45.0,
    angular_weight: float | jax.Array = 2.0,
    scale: float | jax.Array = 1.0,
    negatives: Negatives = "positives",
    direction: Direction = "row",
) -> tuple[Terms, Terms]:
    """N-pair loss plus `angular_weight` times the angular loss, on one similarity.

    To normalise for one of the two alone, add two objectives, each with its own
    similarity.

    Args:
      pairs: inner products [anchor, reference] and masks, with `reference_similarity`.
      angle: degrees, see `angular_loss`.
      angular_weight: lambda in the paper.
      scale: of the N-pair loss, see `n_pairs_loss`.
      negatives: see `n_pairs_loss`.
      direction: see `n_pairs_loss`.

    Returns:
      Terms of the N-pair loss and Terms of the weighted angular loss.

    Source: Wang, Zhou, Wen, Liu, Lin, "Deep Metric Learning with Angular Loss",
    ICCV 2017.
    """
    angular = angular_loss(pairs, angle=angle)
    weighted = Terms(angular_weight * angular.total, angular.count, angular.active)
    n_pairs = n_pairs_loss(pairs, scale=scale, negatives=negatives, direction=direction)
    return n_pairs, weighted


def check_angle(angle: float | jax.Array) -> None:
    """Raises a ValueError for an angle known to be outside (0, 90) degrees."""
    if not isinstance(angle, jax.core.Tracer) and not 0 < float(angle) < 90:
        raise ValueError(f"angle must be above 0 and below 90 degrees, got {angle}")


def _squared_tangent(angle: float | jax.Array) -> jax.Array:
    check_angle(angle)
    return jnp.square(jnp.tan(jnp.deg2rad(angle)))
