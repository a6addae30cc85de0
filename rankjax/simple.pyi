"""One call per loss, declared. Written by `python -m experiments.stub`."""

from collections.abc import Callable, Sequence
from typing import Any, Literal, TypedDict, Unpack

import jax

from rankjax.inputs import Positives, References
from rankjax.mining import Miner, Selection, all_negatives
from rankjax.objective import Loss
from rankjax.pairs import Relevance
from rankjax.registry import Number
from rankjax.similarity import Similarity
from rankjax.terms import Reduction

NAMES: list[str]

class Options(TypedDict, total=False):
    """What every one-call form takes besides the settings of its loss."""

    mining: Miner | None
    similarity: Similarity | None
    reduction: Reduction
    regularizers: Sequence[tuple[Any, Loss]]
    relevance: Relevance | None
    symmetric: bool
    references: References | Positives | None
    valid: Any
    positive: Any
    negative: Any
    weights: Any
    guide: Any
    key: jax.Array | None

def one_call(loss: Loss) -> Callable[..., jax.Array]: ...
def ada_face_loss(
    embeddings: Any,
    labels: Any = None,
    *,
    margin: Number = 0.4,
    concentration: Number = 0.333,
    scale: Number = 64.0,
    length_mean: Number | None = None,
    length_deviation: Number | None = None,
    **options: Unpack[Options],
) -> jax.Array:
    """AdaFace: normalised softmax whose margin depends on the length of the anchor."""

def angular_hinge_loss(
    embeddings: Any,
    labels: Any = None,
    *,
    angle: Number = 45.0,
    **options: Unpack[Options],
) -> jax.Array:
    """Angular loss as a hinge, one term per triplet."""

def angular_loss(
    embeddings: Any,
    labels: Any = None,
    *,
    angle: Number = 45.0,
    negatives: Literal["positives", "all"] = "all",
    **options: Unpack[Options],
) -> jax.Array:
    """Angular loss, one term per anchor and positive."""

def n_pairs_angular_loss(
    embeddings: Any,
    labels: Any = None,
    *,
    angle: Number = 45.0,
    angular_weight: Number = 2.0,
    scale: Number = 1.0,
    negatives: Literal["positives", "all"] = "positives",
    direction: Literal["row", "column", "symmetric"] = "row",
    **options: Unpack[Options],
) -> jax.Array:
    """N-pair loss plus `angular_weight` times the angular loss, on one similarity."""

def arc_face_loss(
    embeddings: Any,
    labels: Any = None,
    *,
    margin: Number = 28.6,
    scale: Number = 64.0,
    **options: Unpack[Options],
) -> jax.Array:
    """ArcFace: normalised softmax whose target angle is widened by a margin."""

def barlow_twins_loss(
    embeddings: Any,
    labels: Any = None,
    *,
    redundancy_weight: Number = 0.005,
    **options: Unpack[Options],
) -> jax.Array:
    """Barlow Twins, one value of the whole batch."""

def binomial_deviance_loss(
    embeddings: Any,
    labels: Any = None,
    *,
    alpha: Number = 2.0,
    threshold: Number = 0.5,
    negative_cost: Number = 25.0,
    **options: Unpack[Options],
) -> jax.Array:
    """Binomial deviance, one term per pair; positives and negatives are averaged apart."""

def blackbox_ap_loss(
    embeddings: Any,
    labels: Any = None,
    *,
    interpolation: Number = 4.0,
    margin: Number = 0.02,
    **options: Unpack[Options],
) -> jax.Array:
    """Blackbox AP, one term per anchor: 1 - AP itself."""

def circle_loss(
    embeddings: Any,
    labels: Any = None,
    *,
    margin: Number = 0.4,
    gamma: Number = 80.0,
    **options: Unpack[Options],
) -> jax.Array:
    """Circle loss, one term per anchor."""

def contrastive_loss(
    embeddings: Any,
    labels: Any = None,
    *,
    margin: Number = 1.0,
    positive_margin: Number = 0.0,
    squared: bool = True,
    **options: Unpack[Options],
) -> jax.Array:
    """Contrastive loss, one term per pair; positives and negatives are averaged apart."""

def signal_to_noise_contrastive_loss(
    embeddings: Any,
    labels: Any = None,
    *,
    margin: Number = 1.0,
    positive_margin: Number = 0.0,
    **options: Unpack[Options],
) -> jax.Array:
    """Contrastive hinges on the inverse of a signal-to-noise ratio."""

def curricular_face_loss(
    embeddings: Any,
    labels: Any = None,
    *,
    margin: Number = 28.6,
    scale: Number = 64.0,
    progress: Number | None = None,
    **options: Unpack[Options],
) -> jax.Array:
    """CurricularFace: ArcFace whose hard classes weigh more, the better it does."""

def debiased_contrastive_loss(
    embeddings: Any,
    labels: Any = None,
    *,
    temperature: Number = 0.5,
    positive_share: Number = 0.1,
    hardness: Number = 0.0,
    **options: Unpack[Options],
) -> jax.Array:
    """NT-Xent whose negatives are corrected for the positives that hide among them."""

def decoupled_contrastive_loss(
    embeddings: Any,
    labels: Any = None,
    *,
    temperature: Number = 0.1,
    sigma: Number | None = None,
    **options: Unpack[Options],
) -> jax.Array:
    """Decoupled contrastive loss (DCL), one term per anchor and positive."""

def margin_mse_loss(
    embeddings: Any,
    labels: Any = None,
    *,
    guide_scale: Number = 1.0,
    **options: Unpack[Options],
) -> jax.Array:
    """Squared error of each margin between a positive and a negative."""

def relaxed_contrastive_loss(
    embeddings: Any,
    labels: Any = None,
    *,
    margin: Number = 1.0,
    width: Number = 1.0,
    **options: Unpack[Options],
) -> jax.Array:
    """Contrastive loss whose pairs are positive as far as they are near for the guide."""

def similarity_distillation_loss(
    embeddings: Any,
    labels: Any = None,
    *,
    temperature: Number = 0.2,
    guide_temperature: Number = 0.01,
    **options: Unpack[Options],
) -> jax.Array:
    """Divergence of an anchor's softmax over the others from that of the guide."""

def dynamic_soft_margin_loss(
    embeddings: Any,
    labels: Any = None,
    *,
    limit: Number = 2.0,
    bins: int = 512,
    **options: Unpack[Options],
) -> jax.Array:
    """Dynamic soft margin loss, one term per anchor and positive."""

def elastic_face_loss(
    embeddings: Any,
    labels: Any = None,
    *,
    margin: Number = 28.6,
    deviation: Number = 2.86,
    scale: Number = 64.0,
    **options: Unpack[Options],
) -> jax.Array:
    """ElasticFace: ArcFace whose margin is a normal number for each anchor."""

def fast_ap_loss(
    embeddings: Any,
    labels: Any = None,
    *,
    bins: int = 10,
    **options: Unpack[Options],
) -> jax.Array:
    """FastAP, one term per anchor: 1 - AP of soft histograms of squared distances."""

def soft_bin_ap_loss(
    embeddings: Any,
    labels: Any = None,
    *,
    bins: int = 20,
    low: Number = -1.0,
    high: Number = 1.0,
    **options: Unpack[Options],
) -> jax.Array:
    """SoftBin-AP, one term per anchor: 1 - AP quantised over soft bins of similarity."""

def generalized_end_to_end_loss(
    embeddings: Any,
    labels: Any = None,
    *,
    scale: Number = 10.0,
    offset: Number = -5.0,
    variant: Literal["softmax", "contrast"] = "softmax",
    **options: Unpack[Options],
) -> jax.Array:
    """GE2E, one term per anchor: its own class's mean against the other classes' means."""

def cosent_loss(
    embeddings: Any,
    labels: Any = None,
    *,
    scale: Number = 20.0,
    **options: Unpack[Options],
) -> jax.Array:
    """CoSENT: an anchor's references in the order of their relevance."""

def soft_target_loss(
    embeddings: Any,
    labels: Any = None,
    *,
    temperature: Number = 0.1,
    **options: Unpack[Options],
) -> jax.Array:
    """Cross-entropy of the softmax over all others with the share of each in relevance."""

def hierarchical_triplet_loss(
    embeddings: Any,
    labels: Any = None,
    *,
    margins: Number = 0.2,
    **options: Unpack[Options],
) -> jax.Array:
    """Triplet loss whose margin depends on the classes of anchor and negative."""

def histogram_loss(
    embeddings: Any,
    labels: Any = None,
    *,
    bins: int = 150,
    **options: Unpack[Options],
) -> jax.Array:
    """Histogram loss: the probability that a negative pair is closer than a positive."""

def intra_pair_variance_loss(
    embeddings: Any,
    labels: Any = None,
    *,
    positive_epsilon: Number = 0.01,
    negative_epsilon: Number = 0.01,
    **options: Unpack[Options],
) -> jax.Array:
    """Intra-pair variance loss, added to the tuplet margin loss."""

def generalized_lifted_structure_loss(
    embeddings: Any,
    labels: Any = None,
    *,
    margin: Number = 1.0,
    **options: Unpack[Options],
) -> jax.Array:
    """Generalised lifted structure loss, one term per anchor."""

def lifted_structure_loss(
    embeddings: Any,
    labels: Any = None,
    *,
    margin: Number = 1.0,
    **options: Unpack[Options],
) -> jax.Array:
    """Lifted structure loss, one term per positive pair."""

def mag_face_loss(
    embeddings: Any,
    labels: Any = None,
    *,
    least_margin: Number = 25.8,
    most_margin: Number = 45.8,
    shortest: Number = 10.0,
    longest: Number = 110.0,
    scale: Number = 64.0,
    length_weight: Number = 35.0,
    **options: Unpack[Options],
) -> jax.Array:
    """MagFace: ArcFace with a margin that rises with the length of the anchor."""

def margin_loss(
    embeddings: Any,
    labels: Any = None,
    *,
    margin: Number = 0.2,
    beta: Number = 1.2,
    nu: Number = 0.0,
    **options: Unpack[Options],
) -> jax.Array:
    """Margin-based loss, one term per pair."""

def multi_similarity_loss(
    embeddings: Any,
    labels: Any = None,
    *,
    alpha: Number = 2.0,
    beta: Number = 50.0,
    threshold: Number = 0.5,
    **options: Unpack[Options],
) -> jax.Array:
    """Multi-similarity loss, one term per anchor."""

def multi_sup_con_loss(
    embeddings: Any,
    labels: Any = None,
    *,
    temperature: Number = 0.1,
    threshold: Number = 0.5,
    **options: Unpack[Options],
) -> jax.Array:
    """Supervised contrastive loss of rows with several labels."""

def n_pairs_loss(
    embeddings: Any,
    labels: Any = None,
    *,
    scale: Number = 1.0,
    negatives: Literal["positives", "all"] = "positives",
    direction: Literal["row", "column", "symmetric"] = "row",
    **options: Unpack[Options],
) -> jax.Array:
    """Multi-class N-pair loss: the cross-entropy of naming an anchor's positive."""

def n_pairs_ovo_loss(
    embeddings: Any,
    labels: Any = None,
    *,
    scale: Number = 1.0,
    negatives: Literal["positives", "all"] = "positives",
    direction: Literal["row", "column", "symmetric"] = "row",
    **options: Unpack[Options],
) -> jax.Array:
    """One-vs-one N-pair loss: a logistic loss per negative, summed."""

def nca_loss(
    embeddings: Any,
    labels: Any = None,
    *,
    scale: Number = 1.0,
    log: bool = True,
    **options: Unpack[Options],
) -> jax.Array:
    """Neighbourhood components analysis: that a random neighbour is of another class."""

def soft_nearest_neighbor_loss(
    embeddings: Any,
    labels: Any = None,
    *,
    temperature: Number = 1.0,
    **options: Unpack[Options],
) -> jax.Array:
    """Soft nearest neighbour loss: -log of the positives' share at a temperature."""

def cos_face_loss(
    embeddings: Any,
    labels: Any = None,
    *,
    margin: Number = 0.35,
    scale: Number = 64.0,
    **options: Unpack[Options],
) -> jax.Array:
    """CosFace: normalised softmax whose target cosine is lowered by a margin."""

def normalized_softmax_loss(
    embeddings: Any,
    labels: Any = None,
    *,
    temperature: Number = 0.05,
    **options: Unpack[Options],
) -> jax.Array:
    """Normalised softmax: the cross-entropy of naming an anchor's class."""

def p2s_grad_loss(
    embeddings: Any,
    labels: Any = None,
    **options: Unpack[Options],
) -> jax.Array:
    """P2SGrad: half the squared distance of an anchor's cosines from one-hot."""

def pnp_loss(
    embeddings: Any,
    labels: Any = None,
    *,
    variant: Literal["O", "Iu", "Ib", "Ds", "Dq"] = "O",
    b: Number = 2.0,
    alpha: Number = 1.0,
    temperature: Number = 0.01,
    **options: Unpack[Options],
) -> jax.Array:
    """PNP, one term per anchor: the mean over its positives of a penalty on n."""

def positive_negative_loss(
    embeddings: Any,
    labels: Any = None,
    *,
    margin: Number | None = 1.0,
    selection: Selection = all_negatives,
    **options: Unpack[Options],
) -> jax.Array:
    """Positive-negative (PN) loss, one term per triplet."""

def potential_field_loss(
    embeddings: Any,
    labels: Any = None,
    *,
    decay: Number = 4.0,
    radius: Number = 0.2,
    core: Number = 0.01,
    **options: Unpack[Options],
) -> jax.Array:
    """Potential energy of each pair; references are the sources of the field."""

def proxy_anchor_loss(
    embeddings: Any,
    labels: Any = None,
    *,
    margin: Number = 0.1,
    alpha: Number = 32.0,
    **options: Unpack[Options],
) -> jax.Array:
    """Proxy-Anchor loss: proxies are the anchors, rows of the batch their references."""

def proxy_nca_loss(
    embeddings: Any,
    labels: Any = None,
    *,
    scale: Number = 1.0,
    **options: Unpack[Options],
) -> jax.Array:
    """Proxy-NCA: nearer to the own proxy than to those of all other classes."""

def proxy_nca_pp_loss(
    embeddings: Any,
    labels: Any = None,
    *,
    temperature: Number = 0.1111111111111111,
    **options: Unpack[Options],
) -> jax.Array:
    """ProxyNCA++: the probability of the own proxy among all, at low temperature."""

def quadruplet_loss(
    embeddings: Any,
    labels: Any = None,
    *,
    margin: Number = 0.2,
    pair_margin: Number = 0.2,
    **options: Unpack[Options],
) -> jax.Array:
    """Triplet loss, plus the same of negative pairs that do not hold the anchor."""

def ranked_list_loss(
    embeddings: Any,
    labels: Any = None,
    *,
    margin: Number = 0.4,
    threshold: Number = 1.2,
    negative_temperature: Number = 10.0,
    positive_temperature: Number = 0.0,
    imbalance: Number = 0.5,
    **options: Unpack[Options],
) -> jax.Array:
    """Ranked list loss, one term per anchor."""

def recall_at_k_loss(
    embeddings: Any,
    labels: Any = None,
    *,
    k: tuple[int, ...] = (1, 2, 4, 8, 16),
    rank_temperature: Number = 1.0,
    temperature: Number = 0.01,
    **options: Unpack[Options],
) -> jax.Array:
    """Recall@k surrogate, one term per anchor: 1 - recall@k, averaged over k."""

def surrogate_precision_loss(
    embeddings: Any,
    labels: Any = None,
    *,
    k: int = 5,
    rank_temperature: Number = 1.0,
    temperature: Number = 0.01,
    **options: Unpack[Options],
) -> jax.Array:
    """Precision@k surrogate, one term per anchor: the recall@k loss, its step at k+1/2."""

def selectively_contrastive_triplet_loss(
    embeddings: Any,
    labels: Any = None,
    *,
    hard_weight: Number = 1.0,
    temperature: Number = 0.1,
    hard_above: Number = float("inf"),
    **options: Unpack[Options],
) -> jax.Array:
    """Triplet loss that only pushes the negative where it is the nearer one."""

def sigmoid_loss(
    embeddings: Any,
    labels: Any = None,
    *,
    scale: Number = 10.0,
    bias: Number = -10.0,
    margin: Number = 0.0,
    **options: Unpack[Options],
) -> jax.Array:
    """Sigmoid loss, summed over an anchor's pairs."""

def smooth_ap_loss(
    embeddings: Any,
    labels: Any = None,
    *,
    temperature: Number = 0.01,
    **options: Unpack[Options],
) -> jax.Array:
    """Smooth-AP, one term per anchor: 1 - AP with sigmoids in place of steps."""

def smooth_ndcg_loss(
    embeddings: Any,
    labels: Any = None,
    *,
    temperature: Number = 0.01,
    **options: Unpack[Options],
) -> jax.Array:
    """Smooth-NDCG, one term per anchor: 1 - NDCG with sigmoids in place of steps."""

def soft_triple_loss(
    embeddings: Any,
    labels: Any = None,
    *,
    scale: Number = 20.0,
    gamma: Number = 0.1,
    margin: Number = 0.01,
    centers: int = 10,
    **options: Unpack[Options],
) -> jax.Array:
    """SoftTriple loss: softmax over classes, each the soft maximum over its centres."""

def nt_xent_loss(
    embeddings: Any,
    labels: Any = None,
    *,
    temperature: Number = 0.07,
    hardness: Number = 0.0,
    **options: Unpack[Options],
) -> jax.Array:
    """NT-Xent, also called InfoNCE: each positive against all negatives of its anchor."""

def sup_con_loss(
    embeddings: Any,
    labels: Any = None,
    *,
    temperature: Number = 0.1,
    mean: Literal["outside", "inside"] = "outside",
    **options: Unpack[Options],
) -> jax.Array:
    """Supervised contrastive loss: the softmax over all others, of all positives."""

def sphere_face_loss(
    embeddings: Any,
    labels: Any = None,
    *,
    margin: int = 4,
    scale: Number = 30.0,
    **options: Unpack[Options],
) -> jax.Array:
    """SphereFace: normalised softmax whose target angle counts m times."""

def sphere_face2_loss(
    embeddings: Any,
    labels: Any = None,
    *,
    share: Number = 0.7,
    scale: Number = 40.0,
    margin: Number = 0.4,
    power: Number = 3.0,
    bias: Number = 0.0,
    **options: Unpack[Options],
) -> jax.Array:
    """SphereFace2: a binary classification per class row, summed over an anchor's row."""

def sub_center_arc_face_loss(
    embeddings: Any,
    labels: Any = None,
    *,
    margin: Number = 28.6,
    scale: Number = 64.0,
    centers: int = 3,
    **options: Unpack[Options],
) -> jax.Array:
    """ArcFace with several rows per class, of which an anchor meets the nearest."""

def calibration_loss(
    embeddings: Any,
    labels: Any = None,
    *,
    positive_above: Number = 0.9,
    negative_below: Number = 0.6,
    **options: Unpack[Options],
) -> jax.Array:
    """Calibration loss, one term per pair: one scale of similarities for all anchors."""

def roadmap_loss(
    embeddings: Any,
    labels: Any = None,
    *,
    temperature: Number = 0.01,
    slope: Number = 100.0,
    delta: Number = 0.05,
    positive_above: Number = 0.9,
    negative_below: Number = 0.6,
    balance: Number = 0.5,
    **options: Unpack[Options],
) -> jax.Array:
    """ROADMAP: (1 - balance) SupAP + balance calibration loss."""

def sup_ap_loss(
    embeddings: Any,
    labels: Any = None,
    *,
    temperature: Number = 0.01,
    slope: Number = 100.0,
    delta: Number = 0.05,
    **options: Unpack[Options],
) -> jax.Array:
    """SupAP, one term per anchor: a bound of 1 - AP that no violation saturates."""

def threshold_consistent_margin_loss(
    embeddings: Any,
    labels: Any = None,
    *,
    positive_margin: Number = 0.9,
    negative_margin: Number = 0.5,
    positive_weight: Number = 1.0,
    negative_weight: Number = 1.0,
    **options: Unpack[Options],
) -> jax.Array:
    """Threshold-consistent margin (TCM) loss, added to another loss."""

def batch_hard_triplet_loss(
    embeddings: Any,
    labels: Any = None,
    *,
    margin: Number | None = None,
    **options: Unpack[Options],
) -> jax.Array:
    """Triplet loss of each anchor's farthest positive and nearest negative."""

def triplet_loss(
    embeddings: Any,
    labels: Any = None,
    *,
    margin: Number | None = 0.2,
    selection: Selection = all_negatives,
    swap: bool = False,
    **options: Unpack[Options],
) -> jax.Array:
    """Triplet loss over all triplets of the batch, or a selection of them."""

def tuplet_margin_loss(
    embeddings: Any,
    labels: Any = None,
    *,
    slack: Number = 5.73,
    scale: Number = 64.0,
    **options: Unpack[Options],
) -> jax.Array:
    """Tuplet margin loss, one term per anchor and positive."""

def vic_reg_loss(
    embeddings: Any,
    labels: Any = None,
    *,
    invariance_weight: Number = 25.0,
    variance_weight: Number = 25.0,
    covariance_weight: Number = 1.0,
    epsilon: Number = 0.0001,
    **options: Unpack[Options],
) -> jax.Array:
    """VICReg: views alike, a standard deviation of 1 at least, no correlation."""
