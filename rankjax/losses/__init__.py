"""Ranking losses: `Pairs` and hyper-parameters in, `Terms` out.

Importing a loss here is what lists it. `LOSSES` has them all: it puts a loss through
the conformance tests, into the README's table and within reach of `experiments.train`.
"""

from collections.abc import Callable
from typing import Any

from rankjax.losses.ada_face import ada_face_loss as ada_face_loss
from rankjax.losses.angular import angular_hinge_loss as angular_hinge_loss
from rankjax.losses.angular import angular_loss as angular_loss
from rankjax.losses.angular import n_pairs_angular_loss as n_pairs_angular_loss
from rankjax.losses.arc_face import arc_face_loss as arc_face_loss
from rankjax.losses.arc_face import dynamic_margins as dynamic_margins
from rankjax.losses.barlow_twins import barlow_twins_loss as barlow_twins_loss
from rankjax.losses.binomial_deviance import (
    binomial_deviance_loss as binomial_deviance_loss,
)
from rankjax.losses.blackbox_ap import blackbox_ap_loss as blackbox_ap_loss
from rankjax.losses.circle import circle_loss as circle_loss
from rankjax.losses.contrastive import contrastive_loss as contrastive_loss
from rankjax.losses.contrastive import (
    signal_to_noise_contrastive_loss as signal_to_noise_contrastive_loss,
)
from rankjax.losses.curricular_face import (
    curricular_face_loss as curricular_face_loss,
)
from rankjax.losses.debiased import (
    debiased_contrastive_loss as debiased_contrastive_loss,
)
from rankjax.losses.decoupled_contrastive import (
    decoupled_contrastive_loss as decoupled_contrastive_loss,
)
from rankjax.losses.distillation import margin_mse_loss as margin_mse_loss
from rankjax.losses.distillation import (
    relaxed_contrastive_loss as relaxed_contrastive_loss,
)
from rankjax.losses.distillation import (
    similarity_distillation_loss as similarity_distillation_loss,
)
from rankjax.losses.dynamic_soft_margin import (
    dynamic_soft_margin_loss as dynamic_soft_margin_loss,
)
from rankjax.losses.elastic_face import elastic_face_loss as elastic_face_loss
from rankjax.losses.fast_ap import fast_ap_loss as fast_ap_loss
from rankjax.losses.fast_ap import soft_bin_ap_loss as soft_bin_ap_loss
from rankjax.losses.generalized_end_to_end import (
    generalized_end_to_end_loss as generalized_end_to_end_loss,
)
from rankjax.losses.graded import cosent_loss as cosent_loss
from rankjax.losses.graded import soft_target_loss as soft_target_loss
from rankjax.losses.hierarchical import hierarchical_margins as hierarchical_margins
from rankjax.losses.hierarchical import (
    hierarchical_triplet_loss as hierarchical_triplet_loss,
)
from rankjax.losses.histogram import histogram_loss as histogram_loss
from rankjax.losses.intra_pair_variance import (
    intra_pair_variance_loss as intra_pair_variance_loss,
)
from rankjax.losses.lifted import (
    generalized_lifted_structure_loss as generalized_lifted_structure_loss,
)
from rankjax.losses.lifted import lifted_structure_loss as lifted_structure_loss
from rankjax.losses.mag_face import mag_face_loss as mag_face_loss
from rankjax.losses.margin import margin_loss as margin_loss
from rankjax.losses.multi_similarity import (
    multi_similarity_loss as multi_similarity_loss,
)
from rankjax.losses.multi_sup_con import multi_sup_con_loss as multi_sup_con_loss
from rankjax.losses.n_pairs import n_pairs_loss as n_pairs_loss
from rankjax.losses.n_pairs import n_pairs_ovo_loss as n_pairs_ovo_loss
from rankjax.losses.nca import nca_loss as nca_loss
from rankjax.losses.nca import soft_nearest_neighbor_loss as soft_nearest_neighbor_loss
from rankjax.losses.normalized_softmax import cos_face_loss as cos_face_loss
from rankjax.losses.normalized_softmax import (
    normalized_softmax_loss as normalized_softmax_loss,
)
from rankjax.losses.p2s_grad import p2s_grad_loss as p2s_grad_loss
from rankjax.losses.pnp import pnp_loss as pnp_loss
from rankjax.losses.positive_negative import (
    positive_negative_loss as positive_negative_loss,
)
from rankjax.losses.potential_field import potential_field_loss as potential_field_loss
from rankjax.losses.proxy_anchor import proxy_anchor_loss as proxy_anchor_loss
from rankjax.losses.proxy_nca import proxy_nca_loss as proxy_nca_loss
from rankjax.losses.proxy_nca import proxy_nca_pp_loss as proxy_nca_pp_loss
from rankjax.losses.quadruplet import quadruplet_loss as quadruplet_loss
from rankjax.losses.ranked_list import ranked_list_loss as ranked_list_loss
from rankjax.losses.recall_at_k import recall_at_k_loss as recall_at_k_loss
from rankjax.losses.recall_at_k import (
    surrogate_precision_loss as surrogate_precision_loss,
)
from rankjax.losses.selectively_contrastive import (
    selectively_contrastive_triplet_loss as selectively_contrastive_triplet_loss,
)
from rankjax.losses.sigmoid import sigmoid_loss as sigmoid_loss
from rankjax.losses.smooth_ap import smooth_ap_loss as smooth_ap_loss
from rankjax.losses.smooth_ndcg import smooth_ndcg_loss as smooth_ndcg_loss
from rankjax.losses.soft_triple import soft_triple_loss as soft_triple_loss
from rankjax.losses.softmax import nt_xent_loss as nt_xent_loss
from rankjax.losses.softmax import sup_con_loss as sup_con_loss
from rankjax.losses.sphere_face import sphere_face_loss as sphere_face_loss
from rankjax.losses.sphere_face2 import sphere_face2_bias as sphere_face2_bias
from rankjax.losses.sphere_face2 import sphere_face2_loss as sphere_face2_loss
from rankjax.losses.sub_center_arc_face import (
    sub_center_arc_face_loss as sub_center_arc_face_loss,
)
from rankjax.losses.sup_ap import calibration_loss as calibration_loss
from rankjax.losses.sup_ap import roadmap_loss as roadmap_loss
from rankjax.losses.sup_ap import sup_ap_loss as sup_ap_loss
from rankjax.losses.threshold_consistent import (
    threshold_consistent_margin_loss as threshold_consistent_margin_loss,
)
from rankjax.losses.triplet import batch_hard_triplet_loss as batch_hard_triplet_loss
from rankjax.losses.triplet import triplet_loss as triplet_loss
from rankjax.losses.tuplet_margin import tuplet_margin_loss as tuplet_margin_loss
from rankjax.losses.vic_reg import vic_reg_loss as vic_reg_loss

LOSSES: dict[str, Callable[..., Any]] = {
    name.removesuffix("_loss"): function
    for name, function in dict(globals()).items()
    if name.endswith("_loss")
}
"""Every loss by its name without `_loss`; `loss.info` says what is known of it."""
