"""Ranking losses and metric learning for JAX."""

import importlib
from typing import TYPE_CHECKING, Any

from rankjax import losses, mining, parallel, regularizers, similarity
from rankjax.inputs import Positives, References
from rankjax.objective import Objective, objective
from rankjax.pairs import Features, Pairs, from_tuples, masks_from_pairs
from rankjax.regularizers import squared_norm
from rankjax.sampling import sampled_classes
from rankjax.simple import NAMES as _NAMES
from rankjax.simple import ada_face_loss as ada_face_loss
from rankjax.simple import angular_hinge_loss as angular_hinge_loss
from rankjax.simple import angular_loss as angular_loss
from rankjax.simple import arc_face_loss as arc_face_loss
from rankjax.simple import barlow_twins_loss as barlow_twins_loss
from rankjax.simple import batch_hard_triplet_loss as batch_hard_triplet_loss
from rankjax.simple import binomial_deviance_loss as binomial_deviance_loss
from rankjax.simple import blackbox_ap_loss as blackbox_ap_loss
from rankjax.simple import calibration_loss as calibration_loss
from rankjax.simple import circle_loss as circle_loss
from rankjax.simple import contrastive_loss as contrastive_loss
from rankjax.simple import cos_face_loss as cos_face_loss
from rankjax.simple import cosent_loss as cosent_loss
from rankjax.simple import curricular_face_loss as curricular_face_loss
from rankjax.simple import debiased_contrastive_loss as debiased_contrastive_loss
from rankjax.simple import decoupled_contrastive_loss as decoupled_contrastive_loss
from rankjax.simple import dynamic_soft_margin_loss as dynamic_soft_margin_loss
from rankjax.simple import elastic_face_loss as elastic_face_loss
from rankjax.simple import fast_ap_loss as fast_ap_loss
from rankjax.simple import generalized_end_to_end_loss as generalized_end_to_end_loss
from rankjax.simple import (
    generalized_lifted_structure_loss as generalized_lifted_structure_loss,
)
from rankjax.simple import hierarchical_triplet_loss as hierarchical_triplet_loss
from rankjax.simple import histogram_loss as histogram_loss
from rankjax.simple import intra_pair_variance_loss as intra_pair_variance_loss
from rankjax.simple import lifted_structure_loss as lifted_structure_loss
from rankjax.simple import mag_face_loss as mag_face_loss
from rankjax.simple import margin_loss as margin_loss
from rankjax.simple import margin_mse_loss as margin_mse_loss
from rankjax.simple import multi_similarity_loss as multi_similarity_loss
from rankjax.simple import multi_sup_con_loss as multi_sup_con_loss
from rankjax.simple import n_pairs_angular_loss as n_pairs_angular_loss
from rankjax.simple import n_pairs_loss as n_pairs_loss
from rankjax.simple import n_pairs_ovo_loss as n_pairs_ovo_loss
from rankjax.simple import nca_loss as nca_loss
from rankjax.simple import normalized_softmax_loss as normalized_softmax_loss
from rankjax.simple import nt_xent_loss as nt_xent_loss
from rankjax.simple import p2s_grad_loss as p2s_grad_loss
from rankjax.simple import pnp_loss as pnp_loss
from rankjax.simple import positive_negative_loss as positive_negative_loss
from rankjax.simple import potential_field_loss as potential_field_loss
from rankjax.simple import proxy_anchor_loss as proxy_anchor_loss
from rankjax.simple import proxy_nca_loss as proxy_nca_loss
from rankjax.simple import proxy_nca_pp_loss as proxy_nca_pp_loss
from rankjax.simple import quadruplet_loss as quadruplet_loss
from rankjax.simple import ranked_list_loss as ranked_list_loss
from rankjax.simple import recall_at_k_loss as recall_at_k_loss
from rankjax.simple import relaxed_contrastive_loss as relaxed_contrastive_loss
from rankjax.simple import roadmap_loss as roadmap_loss
from rankjax.simple import (
    selectively_contrastive_triplet_loss as selectively_contrastive_triplet_loss,
)
from rankjax.simple import sigmoid_loss as sigmoid_loss
from rankjax.simple import (
    signal_to_noise_contrastive_loss as signal_to_noise_contrastive_loss,
)
from rankjax.simple import similarity_distillation_loss as similarity_distillation_loss
from rankjax.simple import smooth_ap_loss as smooth_ap_loss
from rankjax.simple import smooth_ndcg_loss as smooth_ndcg_loss
from rankjax.simple import soft_bin_ap_loss as soft_bin_ap_loss
from rankjax.simple import soft_nearest_neighbor_loss as soft_nearest_neighbor_loss
from rankjax.simple import soft_target_loss as soft_target_loss
from rankjax.simple import soft_triple_loss as soft_triple_loss
from rankjax.simple import sphere_face2_loss as sphere_face2_loss
from rankjax.simple import sphere_face_loss as sphere_face_loss
from rankjax.simple import sub_center_arc_face_loss as sub_center_arc_face_loss
from rankjax.simple import sup_ap_loss as sup_ap_loss
from rankjax.simple import sup_con_loss as sup_con_loss
from rankjax.simple import surrogate_precision_loss as surrogate_precision_loss
from rankjax.simple import (
    threshold_consistent_margin_loss as threshold_consistent_margin_loss,
)
from rankjax.simple import triplet_loss as triplet_loss
from rankjax.simple import tuplet_margin_loss as tuplet_margin_loss
from rankjax.simple import vic_reg_loss as vic_reg_loss
from rankjax.terms import (
    BatchSums,
    Reduction,
    Terms,
    class_balanced_mean,
    mean,
    mean_active,
    mean_per_anchor,
    total,
)

__version__ = "0.1.0"

if TYPE_CHECKING:
    from rankjax import data as data
    from rankjax import exported as exported
    from rankjax import memory as memory
    from rankjax import metrics as metrics
    from rankjax import models as models
    from rankjax import report as report
    from rankjax import train as train
else:
    # Losses do without what these import: SciPy, or packages of the extra `train`.
    _LATER = {"data", "exported", "memory", "metrics", "models", "report", "train"}

    def __getattr__(name: str) -> Any:
        if name in _LATER:
            return importlib.import_module(f"rankjax.{name}")
        raise AttributeError(f"module 'rankjax' has no attribute {name!r}")


__all__ = [
    "BatchSums",
    "Features",
    "Objective",
    "Pairs",
    "Positives",
    "Reduction",
    "References",
    "Terms",
    "class_balanced_mean",
    "from_tuples",
    "losses",
    "masks_from_pairs",
    "mean",
    "mean_active",
    "mean_per_anchor",
    "metrics",
    "mining",
    "objective",
    "parallel",
    "regularizers",
    "sampled_classes",
    "similarity",
    "squared_norm",
    "total",
    *_NAMES,
]
