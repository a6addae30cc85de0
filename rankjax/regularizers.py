"""Penalties that are averaged over the batch and added to a loss.

Most know no classes. Those that do are for learned class vectors, and are called as an
objective of their own: `objective(regular_face)(proxies, proxy_labels)`.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from rankjax import rows, similarity
from rankjax.pairs import Features, Pairs
from rankjax.registry import Count, Kind, Positive, register
from rankjax.terms import BatchSums, Terms


@register(kind=Kind.FEATURES, paper="Sohn, NIPS 2016")
def squared_norm(features: Features) -> Terms:
    """Squared lengths of rows; keeps un-normalised N-pair embeddings bounded.

    Source: Sohn, "Improved Deep Metric Learning with Multi-class N-pair Loss
    Objective", NIPS 2016. Known code scales it differently. With weight w times the
    mean of this over the batch: TensorFlow's `npairs_loss` has w = 0.001 (0.002 / 4 for
    anchors and positives each), code that follows the paper 0.01.

    >>> import rankjax
    >>> x, y = [[3.0, 4.0], [0.0, 2.0], [-1.0, 0.5]], [0, 0, 1]
    >>> round(float(rankjax.objective(rankjax.regularizers.squared_norm)(x, y)), 3)
    10.083
    """
    return Terms.one_per_anchor(
        jnp.sum(jnp.square(features.embeddings), -1), features.valid
    )


@register(kind=Kind.FEATURES, paper="Roth et al., ICML 2020")
def norm(features: Features) -> Terms:
    """Lengths of rows, not squared; gradient zero at the zero vector.

    Source: code of Roth et al., "Revisiting Training Strategies and Generalization
    Performance in Deep Metric Learning", ICML 2020, for N-pair, angular and lifted
    losses; weight 0.005.

    >>> import rankjax
    >>> x, y = [[3.0, 4.0], [0.0, 2.0], [-1.0, 0.5]], [0, 0, 1]
    >>> round(float(rankjax.objective(rankjax.regularizers.norm)(x, y)), 3)
    2.706
    """
    return Terms.one_per_anchor(similarity.lengths(features.embeddings), features.valid)


@register(kind=Kind.FEATURES, paper="Wu et al., ACM MM Workshops 2017")
def center_invariant(features: Features) -> BatchSums:
    """(|x|^2 - mean |x|^2)^2 / 4 with the batch's mean; makes lengths alike.

    Source: Wu, Liu, Li, Fu, "Deep Face Recognition with Center Invariant Loss", 2017,
    as pytorch-metric-learning has it. No weight is known to us; the value grows as the
    fourth power of the lengths.

    >>> import rankjax
    >>> x, y = [[3.0, 4.0], [0.0, 2.0], [-1.0, 0.5]], [0, 0, 1]
    >>> round(float(rankjax.objective(rankjax.regularizers.center_invariant)(x, y)), 3)
    28.128
    """
    squares = jnp.sum(jnp.square(features.embeddings), -1)
    return _about_mean(squares, features.valid, factor=1 / 4)


@register(kind=Kind.FEATURES, paper="Zhang et al., NeurIPS 2020")
def spherical_embedding(features: Features) -> BatchSums:
    """(|x| - mean |x|)^2 with the batch's mean, which the gradient sees as well.

    For losses on directions: a row's step across the sphere is inversely proportional
    to its length, and this makes lengths alike.

    Source: Zhang, Li, Zhang, "Deep Metric Learning with Spherical Embedding", NeurIPS
    2020. Known code keeps a running mean instead, without gradient.

    >>> import rankjax
    >>> x, y = [[3.0, 4.0], [0.0, 2.0], [-1.0, 0.5]], [0, 0, 1]
    >>> compute = rankjax.objective(rankjax.regularizers.spherical_embedding)
    >>> round(float(compute(x, y)), 3)
    2.761
    """
    return _about_mean(similarity.lengths(features.embeddings), features.valid)


@register(kind=Kind.FEATURES, paper="Yuan et al. (SNR), CVPR 2019")
def zero_mean(features: Features) -> Terms:
    """|sum of the entries| of each row, which distances by variance do not see.

    It depends on the axes: a rotation changes it.

    Source: Yuan, Deng, Tang, Tang, Chen, "Signal-to-Noise Ratio: A Robust Distance
    Metric for Deep Metric Learning", CVPR 2019, as pytorch-metric-learning has it. "A
    Metric Learning Reality Check" found weights 0.14 (CUB) and 0 (Cars, SOP) by search.

    >>> import rankjax
    >>> x, y = [[3.0, 4.0], [0.0, 2.0], [-1.0, 0.5]], [0, 0, 1]
    >>> round(float(rankjax.objective(rankjax.regularizers.zero_mean)(x, y)), 3)
    3.167
    """
    return Terms.one_per_anchor(
        jnp.abs(jnp.sum(features.embeddings, -1)), features.valid
    )


@register(kind=Kind.PLAIN, paper="Zhang et al. (GOR), ICCV 2017")
def spread_out(pairs: Pairs, *, dim: Count | None = None) -> BatchSums:
    """Moments of the cosines of negatives, against those of the uniform sphere.

        M1^2 + [M2 - 1 / dim]+,   M1 = mean of S, M2 = mean of S^2 over negatives

    Args:
      pairs: cosines [anchor, reference] and masks.
      dim: of the space; by default the embeddings'.

    Returns:
      Terms; each anchor with a negative has the value of the batch.

    Raises:
      ValueError: dim is not known, where Pairs are made by hand.

    Source: Zhang, Yu, Kumar, Chang, "Learning Spread-out Local Feature Descriptors",
    ICCV 2017. Known code takes one random negative per anchor; here all count. No
    weight is confirmed; known code has 1.

    >>> import rankjax
    >>> x, y = [[3.0, 4.0], [0.0, 2.0], [-1.0, 0.5]], [0, 0, 1]
    >>> round(float(rankjax.objective(rankjax.regularizers.spread_out)(x, y)), 3)
    0.018
    """
    size = pairs.dim if dim is None else dim
    if size is None:
        raise ValueError("spread_out needs dim, got None")
    s, negative = pairs.similarity, pairs.negative
    first, second = (jnp.sum(s**power, where=negative) for power in (1, 2))

    def terms(sums: tuple[jax.Array, jax.Array, jax.Array]) -> Terms:
        number = jnp.maximum(sums[2], 1)
        excess = jax.nn.relu(sums[1] / number - 1 / size)
        return _handed(jnp.square(sums[0] / number) + excess, negative.any(-1))

    return BatchSums((first, second, jnp.sum(negative, dtype=s.dtype)), terms)


@register(
    kind=Kind.ROW,
    similarity=similarity.negative_normalized_euclidean,
    paper="Sablayrolles et al., ICLR 2019",
    signed=True,
)
def koleo(pairs: Pairs, *, epsilon: Positive = 1e-8) -> Terms:
    """-log(min D + epsilon): differential entropy, by each row's nearest other row.

    Args:
      pairs: similarities [anchor, reference] and masks, D the negated similarity (the
        distance of normalised rows by default). Every other row counts, of the anchor's
        class or not.
      epsilon: in units of D; what coincident rows cost. They have no gradient that
        parts them.

    Returns:
      Terms, one per anchor with another row.

    Source: Sablayrolles, Douze, Schmid, Jegou, "Spreading vectors for similarity
    search", ICLR 2019 (Kozachenko and Leonenko's estimator); epsilon is DINOv2's.

    >>> import rankjax
    >>> x, y = [[3.0, 4.0], [0.0, 2.0], [-1.0, 0.5]], [0, 0, 1]
    >>> round(float(rankjax.objective(rankjax.regularizers.koleo)(x, y)), 3)
    0.289
    """
    others = pairs.positive | pairs.negative
    some = others.any(-1)
    nearest = jnp.where(some, -rows.largest(pairs.similarity, others), 1)
    return Terms.one_per_anchor(-jnp.log(jnp.maximum(nearest, 0) + epsilon), some)


@register(kind=Kind.PLAIN, paper="Wang and Isola, ICML 2020", signed=True)
def uniformity(pairs: Pairs, *, temperature: Positive = 2.0) -> BatchSums:
    """log mean exp(-t D^2) over all pairs, D the distance of normalised rows.

    From -4 t (never reached by more than two rows) to 0, at collapse.

    Args:
      pairs: cosines S [anchor, reference], D^2 = 2 - 2 S, and masks; pairs in either
        count.
      temperature: t; beyond 20 or so opposite rows vanish in float32.

    Returns:
      Terms; each anchor with another row has the value of the batch.

    Source: Wang, Isola, "Understanding Contrastive Representation Learning through
    Alignment and Uniformity on the Hypersphere", ICML 2020; t = 2.

    >>> import rankjax
    >>> x, y = [[3.0, 4.0], [0.0, 2.0], [-1.0, 0.5]], [0, 0, 1]
    >>> round(float(rankjax.objective(rankjax.regularizers.uniformity)(x, y)), 3)
    -1.664
    """
    others = pairs.positive | pairs.negative
    kernel = jnp.exp(2 * temperature * (pairs.similarity - 1))
    number = jnp.sum(others, dtype=kernel.dtype)

    def terms(sums: tuple[jax.Array, jax.Array]) -> Terms:
        mean = sums[0] / jnp.maximum(sums[1], 1)
        some = mean > 0
        value = jnp.where(some, jnp.log(jnp.where(some, mean, 1)), 0)
        return _handed(value, others.any(-1))

    return BatchSums((jnp.sum(kernel, where=others), number), terms)


@register(kind=Kind.ROW, paper="Wang and Isola, ICML 2020")
def alignment(pairs: Pairs) -> Terms:
    """Squared distance of normalised positives, 2 - 2 S; see also `uniformity`.

    Up to a constant it is the negative cosine that two views minimise.

    Source: Wang, Isola, "Understanding Contrastive Representation Learning through
    Alignment and Uniformity on the Hypersphere", ICML 2020; exponent 2.

    >>> import rankjax
    >>> x, y = [[3.0, 4.0], [0.0, 2.0], [-1.0, 0.5]], [0, 0, 1]
    >>> round(float(rankjax.objective(rankjax.regularizers.alignment)(x, y)), 3)
    0.4
    """
    return Terms.over_references(2 - 2 * pairs.similarity, pairs.positive)


@register(kind=Kind.FEATURES, paper="Taha et al. (SVMax), 2021", signed=True)
def sv_max(features: Features) -> BatchSums:
    """Minus the mean singular value of the batch's normalised rows [n, dim].

    The mean is over min(n, dim) values. Between -sqrt(n / min(n, dim)), where all
    directions are used alike, and -sqrt(n) / min(n, dim), at collapse.

    Singular values below sqrt(eps) of the root of their squared sum, with eps that of
    the floating point type, are taken as 0 without gradient: the values come from the
    dim x dim matrix of products, which alone is summed over blocks and devices.

    Source: Taha, Hanson, Shrivastava, Davis, "SVMax: A Feature Embedding Regularizer",
    2021. The authors ask for n at least dim. We know of no weight that fits all.

    >>> import rankjax
    >>> x, y = [[3.0, 4.0], [0.0, 2.0], [-1.0, 0.5]], [0, 0, 1]
    >>> round(float(rankjax.objective(rankjax.regularizers.sv_max)(x, y)), 3)
    -1.216
    """

    def value(products: jax.Array, n: jax.Array) -> jax.Array:
        squares = jnp.linalg.eigvalsh(products)
        some = squares > jnp.finfo(products.dtype).eps * jnp.maximum(n, 1)
        values = jnp.where(some, jnp.sqrt(jnp.where(some, squares, 1)), 0)
        return -jnp.sum(values) / jnp.clip(n, 1, len(products))

    return _of_products(features, value)


@register(kind=Kind.FEATURES, paper="Jiang et al. (Anti-Collapse), 2024", signed=True)
def anti_collapse(features: Features, *, distortion: Positive = 0.5) -> BatchSums:
    """Minus the coding rate of the batch's normalised rows [n, dim].

        -1/2 log det(I + dim / (n distortion) Z^T Z)

    Between -dim/2 log(1 + 1 / distortion), where all directions are used alike, and
    -1/2 log(1 + dim / distortion), at collapse.

    Args:
      features: the batch.
      distortion: the squared error up to which rows are coded, epsilon^2 of the papers.

    Source: Jiang, Yao, Dai, Shen, Nie, Shen, "Anti-Collapse Loss for Deep Metric
    Learning Based on Coding Rate Metric", 2024, of samples or of proxies; the rate and
    the default are of Yu, Chan, You, Song, Ma, "Learning Diverse and Discriminative
    Representations via the Principle of Maximal Coding Rate Reduction", NeurIPS 2020.
    We know of no weight that fits all.

    >>> import rankjax
    >>> x, y = [[3.0, 4.0], [0.0, 2.0], [-1.0, 0.5]], [0, 0, 1]
    >>> round(float(rankjax.objective(rankjax.regularizers.anti_collapse)(x, y)), 3)
    -1.086
    """

    def value(products: jax.Array, n: jax.Array) -> jax.Array:
        dim = len(products)
        scaled = products * (dim / (distortion * jnp.maximum(n, 1)))
        identity = jnp.eye(dim, dtype=products.dtype)
        return -jnp.linalg.slogdet(identity + scaled)[1] / 2

    return _of_products(features, value)


def _of_products(
    features: Features, value: Callable[[jax.Array, jax.Array], jax.Array]
) -> BatchSums:
    """A value of the products [dim, dim] of normalised rows' columns, and of how many
    rows there are."""
    x = jnp.where(features.valid[:, None], similarity.normalize(features.embeddings), 0)
    number = jnp.sum(features.valid, dtype=x.dtype)
    return BatchSums(
        (similarity.dot(x.T, x.T), number),
        lambda sums: _handed(value(*sums), features.valid),
    )


@register(
    kind=Kind.ROW,
    similarity=similarity.negative_normalized_euclidean,
    paper="Qian et al. (SoftTriple), ICCV 2019",
)
def sparse_centers(pairs: Pairs) -> Terms:
    """Half the distance of two centres of one class: centres that are not needed merge.

    Rows are normalised centres, several per class with equal labels.

    Source: Qian, Shang, Sun, Hu, Li, Jin, "SoftTriple Loss: Deep Metric Learning
    Without Triplet Sampling", ICCV 2019. The half is the paper's, whose divisor is
    twice the number of pairs; weight 0.2 in its code.

    >>> import rankjax
    >>> x, y = [[3.0, 4.0], [0.0, 2.0], [-1.0, 0.5]], [0, 0, 1]
    >>> round(float(rankjax.objective(rankjax.regularizers.sparse_centers)(x, y)), 3)
    0.316
    """
    return Terms.over_references(-pairs.similarity / 2, pairs.positive)


@register(kind=Kind.ROW, paper="Zhao et al., CVPR 2019")
def regular_face(pairs: Pairs) -> Terms:
    """Cosine of each class vector and the nearest one of another class.

    Source: Zhao, Xu, Cheng, "RegularFace: Deep Face Recognition via Exclusive
    Regularization", CVPR 2019. No weight is known to us.

    >>> import rankjax
    >>> x, y = [[3.0, 4.0], [0.0, 2.0], [-1.0, 0.5]], [0, 0, 1]
    >>> round(float(rankjax.objective(rankjax.regularizers.regular_face)(x, y)), 3)
    0.239
    """
    some = pairs.negative.any(-1)
    nearest = rows.largest(pairs.similarity, pairs.negative)
    return Terms.one_per_anchor(jnp.where(some, nearest, 0), some)


def _about_mean(values: jax.Array, where: jax.Array, factor: float = 1.0) -> BatchSums:
    """Squared deviations [anchor] from the batch's mean."""

    def terms(sums: tuple[jax.Array, jax.Array]) -> Terms:
        mean = sums[0] / jnp.maximum(sums[1], 1)
        return Terms.one_per_anchor(factor * jnp.square(values - mean), where)

    number = jnp.sum(where, dtype=values.dtype)
    return BatchSums((jnp.sum(values, where=where), number), terms)


def _handed(value: jax.Array, where: jax.Array) -> Terms:
    """A value of the whole batch as a term of each anchor, so that it is the mean."""
    return Terms.one_per_anchor(jnp.broadcast_to(value, where.shape), where)


REGULARIZERS = {
    name: function
    for name, function in dict(globals()).items()
    if hasattr(function, "info")
}
"""Every regulariser by its name."""
