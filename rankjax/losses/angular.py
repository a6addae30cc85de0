"""Angular losses: a bound on the angle at the negative."""

import jax
import jax.numpy as jnp

from rankjax import rows, similarity
from rankjax.losses.n_pairs import Direction, Negatives, assign_roles, n_pairs_loss
from rankjax.pairs import Pairs
from rankjax.registry import Degrees, Kind, NonNegative, Positive, register
from rankjax.rows import View
from rankjax.terms import Terms

_PAPER = "Wang et al., ICCV 2017"


@register(kind=Kind.POSITIVE_ROWS, batch="pairs", paper=_PAPER)
def angular_loss(
    pairs: Pairs, *, angle: Degrees = 45.0, negatives: Negatives = "all"
) -> Terms:
    """Angular loss, one term per anchor and positive.

    With t = tan(angle)^2 and S an inner product (the cosine by default):

        log(1 + sum_n exp(4 t (S(a, n) + S(p, n)) - 2 (1 + t) S(a, p)))

    Args:
      pairs: similarities [anchor, reference] and masks, with `reference_similarity`.
      angle: degrees, above 0 and below 90. The paper finds 36 to 55 to work. Below 30
        the loss of a collapsed unit-length embedding, log(1 + n exp(6 t - 2)) for n
        negatives, is under that of N-pairs: collapse is rewarded.
      negatives: 'all' rows of other classes, for every row as an anchor, or
        'positives', N-pairs' roles: half the rows are anchors, and only the other
        pairs' positives are negatives, as in the TensorFlow baselines.

    Returns:
      Terms, one per anchor and positive where the anchor has a negative.

    Source: Wang, Zhou, Wen, Liu, Lin, "Deep Metric Learning with Angular Loss",
    ICCV 2017. The exponent drops the norms, so that it equals the hinge's argument
    plus a constant for unit length only: the *angle* does not depend on the scale of
    the embeddings, but the value of this loss does. pytorch-metric-learning 2 leaves
    the negatives at any length, and its default angle is 40.

    >>> import rankjax
    >>> x = [[1.0, 0.0], [0.8, 0.6], [0.0, 1.0], [-0.6, 0.8]]
    >>> y = [0, 0, 1, 1]
    >>> round(float(rankjax.angular_loss(x, y)), 3)
    0.374
    """
    if negatives == "positives":
        pairs = assign_roles(pairs, negatives, "row")

    def terms(view: View) -> Terms:
        t = _squared_tangent(angle)
        both = rows.log_sum_exp(4 * t * (view.row + view.positive_row), view.negatives)
        value = jax.nn.softplus(both - 2 * (1 + t) * view.positive)
        return Terms.one_per_anchor(value, view.negatives.any())

    return rows.per_positive(pairs, terms)


@register(
    kind=Kind.POSITIVE_ROWS,
    similarity=similarity.negative_squared_euclidean,
    batch="pairs",
    paper=_PAPER,
)
def angular_hinge_loss(pairs: Pairs, *, angle: Degrees = 45.0) -> Terms:
    """Angular loss as a hinge, one term per triplet.

    With t = tan(angle)^2 and c the midpoint of anchor and positive:

        [|a - p|^2 - 4 t |n - c|^2]+

    which Apollonius' theorem turns into pairwise squared distances D^2 alone:

        [(1 + t) D^2(a, p) - 2 t (D^2(a, n) + D^2(p, n))]+

    A term is above zero exactly when the angle at n exceeds `angle`.

    Args:
      pairs: minus squared Euclidean distances [anchor, reference] and masks, with
        `reference_similarity`.
      angle: degrees, above 0 and below 90. A collapsed embedding has loss 0 at any.

    Returns:
      Terms, one term per triplet. Rotation and translation change nothing; scaling the
      embeddings by s scales the value by s^2 and leaves the active triplets the same.

    Source: Wang, Zhou, Wen, Liu, Lin, "Deep Metric Learning with Angular Loss",
    ICCV 2017.

    >>> import rankjax
    >>> x = [[1.0, 0.0], [0.8, 0.6], [0.0, 1.0], [-0.6, 0.8]]
    >>> y = [0, 0, 1, 1]
    >>> round(float(rankjax.angular_hinge_loss(x, y, angle=10.0)), 3)
    0.164
    """

    def terms(view: View) -> Terms:
        t = _squared_tangent(angle)
        both = view.row + view.positive_row
        argument = 2 * t * both - (1 + t) * view.positive
        return Terms.over_references(jax.nn.relu(argument), view.negatives)

    return rows.per_positive(pairs, terms)


@register(
    kind=Kind.POSITIVE_ROWS, similarity=similarity.dot, batch="pairs", paper=_PAPER
)
def n_pairs_angular_loss(
    pairs: Pairs,
    *,
    angle: Degrees = 45.0,
    angular_weight: NonNegative = 2.0,
    scale: Positive = 1.0,
    negatives: Negatives = "positives",
    direction: Direction = "row",
) -> tuple[Terms, Terms]:
    """N-pair loss plus `angular_weight` times the angular loss, on one similarity.

    Args:
      pairs: inner products [anchor, reference] and masks, with `reference_similarity`.
        To normalise for one of the two alone, add two objectives.
      angle: degrees, see `angular_loss`, which takes all negatives.
      angular_weight: lambda in the paper.
      scale: of the N-pair loss, like the two below; see `n_pairs_loss`.
      negatives: see `n_pairs_loss`.
      direction: see `n_pairs_loss`.

    Returns:
      Terms of the N-pair loss and Terms of the weighted angular loss.

    Source: as `angular_loss`. Default weight as in known code.

    >>> import rankjax
    >>> x, y = [[1.0, 0.0], [0.8, 0.6], [0.0, 1.0], [-0.6, 0.8]], [0, 0, 1, 1]
    >>> round(float(rankjax.n_pairs_angular_loss(x, y)), 3)
    1.157
    """
    n_pairs = n_pairs_loss(pairs, scale=scale, negatives=negatives, direction=direction)
    return n_pairs, angular_loss(pairs, angle=angle).scaled(angular_weight)


def _squared_tangent(angle: Degrees) -> jax.Array:
    return jnp.square(jnp.tan(jnp.deg2rad(angle)))
