"""Decisions by a threshold: same or different, known or unknown."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from rankjax.metrics import checks


def template_embeddings(
    embeddings: Any, templates: Any, media: Any = None
) -> tuple[np.ndarray, np.ndarray]:
    """One embedding for each template, a person's images that are taken together.

    It is the mean over the template's media of the mean over each one's rows, so that a
    video's frames count as one picture does (Whitelam et al., "IARPA Janus Benchmark-B
    Face Dataset", CVPR Workshops 2017). Known code adds media up instead, which has the
    same direction.

    Args:
      embeddings: [n, dim].
      templates: [n] integers or strings, which template a row is of.
      media: [n] likewise, which picture or video a row is of; by default each row is
        one of its own.

    Returns:
      The templates [t], rising, and their embeddings, float64 [t, dim].

    Raises:
      ValueError: a wrong shape, or numbers that are not finite.
      TypeError: a wrong type.
    """
    rows = checks.as_embeddings("embeddings", embeddings).astype(np.float64)
    n = len(rows)
    templates = checks.as_labels("templates", templates, n)
    media = np.arange(n) if media is None else checks.as_labels("media", media, n)
    # Numbers of numbers: of int64 and uint64 NumPy's common type is floating point.
    names, codes = np.unique(templates, return_inverse=True)
    media = np.unique(media, return_inverse=True)[1]
    (of_template, _), group = np.unique([codes, media], axis=1, return_inverse=True)
    for numbers in (group.reshape(-1), of_template):
        order = np.argsort(numbers, kind="stable")
        starts = np.searchsorted(numbers[order], np.arange(numbers.max() + 1))
        counts = np.bincount(numbers)[:, None]
        rows = np.add.reduceat(rows[order], starts) / counts
    return names, rows


@dataclasses.dataclass(frozen=True)
class Verification:
    """What `verification` returns.

    Attributes:
      accuracy: mean over folds, and
      standard_error: of that mean over folds.
      tar_at_far: true acceptance rate by false acceptance rate; NaN where there are
        too few pairs to tell.
      eer: equal error rate.
      auc: area under the ROC curve.
      far: [points] of the ROC curve, from 0 to 1.
      tar: [points].
      thresholds: [points], falling; the first is infinite.
    """

    accuracy: float
    standard_error: float
    tar_at_far: dict[float, float]
    eer: float
    auc: float
    far: np.ndarray
    tar: np.ndarray
    thresholds: np.ndarray


def verification(
    scores: Any,
    same: Any,
    *,
    fold: Any = None,
    folds: int = 10,
    fars: float | Sequence[float] = (1e-1, 1e-2, 1e-3, 1e-4),
) -> Verification:
    """How well a threshold on similarity tells pairs of one identity from others.

    A pair is accepted where its score is at least the threshold, so pairs with equal
    scores are accepted or rejected together. FAR is the share of different pairs that
    are accepted, TAR of same pairs.

    - Accuracy in each fold, at the threshold which has the most pairs of the other
      folds right; of equally good ones the strictest. Its standard error is the
      standard deviation over folds, with folds - 1 below, over the root of folds
      (Huang, Ramesh, Berg, Learned-Miller, "Labeled Faces in the Wild", 2007).
    - TAR at a FAR: the largest TAR of a threshold whose FAR is not above it; NaN where
      FAR times different pairs is below 1, fewer than one false acceptance.
    - EER: where FAR = 1 - TAR on the straight lines between points of the ROC curve.
    - AUC: by trapezoids; the chance that a same pair scores above a different one,
      where a tie counts one half.

    Args:
      scores: [pairs], higher is closer.
      same: [pairs] bool.
      fold: [pairs] integers or strings, the fold of each pair; identities should not
        be in two.
        By default same pairs are cut into `folds` runs of equal length in the order
        given, and so are different pairs. For the pairs of LFW's View 2 in their order
        these are its ten sets.
      folds: their number where `fold` is None, at least 2.
      fars: rates from 0 to 1, or one.

    Raises:
      ValueError: NaN, a wrong shape, pairs of one kind alone, or too few for the folds.
      TypeError: `same` is not bool, or `fold` neither.
    """
    fars = checks.as_rates("fars", fars)
    scores = checks.as_values("scores", scores)
    same = checks.as_mask("same", same, len(scores))
    positives, negatives = int(same.sum()), int((~same).sum())
    if not positives or not negatives:
        raise ValueError(
            "same must hold pairs of both kinds, "
            f"got {positives} same and {negatives} different"
        )
    if fold is None:
        checks.check_count("folds", folds, 2, min(positives, negatives))
        fold = np.empty(len(scores), np.int64)
        fold[same] = np.arange(positives) * folds // positives
        fold[~same] = np.arange(negatives) * folds // negatives
    fold = checks.as_labels("fold", fold, len(scores))
    accuracies = [_accuracy(scores, same, fold == f) for f in np.unique(fold)]

    thresholds, accepted, false = _points(scores, same)
    far, tar = false / negatives, accepted / positives
    genuine, impostor = scores[same], scores[~same]
    return Verification(
        accuracy=float(np.mean(accuracies)),
        standard_error=float(np.std(accuracies, ddof=1) / math.sqrt(len(accuracies))),
        tar_at_far={x: _rate_at(genuine, impostor, x) for x in fars},
        eer=_equal_error(far, 1 - tar),
        auc=float(np.trapezoid(tar, far)),
        far=far,
        tar=tar,
        thresholds=thresholds,
    )


def _points(
    scores: np.ndarray, same: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Thresholds, falling, and how many same and different pairs each accepts."""
    order = np.argsort(-scores, kind="stable")
    ranked, hit = scores[order], same[order]
    last = np.append(ranked[1:] != ranked[:-1], True)
    accepted = np.cumsum(hit)[last]
    false = np.flatnonzero(last) + 1 - accepted
    return (
        np.insert(ranked[last], 0, np.inf),
        np.insert(accepted, 0, 0),
        np.insert(false, 0, 0),
    )


def _accuracy(scores: np.ndarray, same: np.ndarray, held_out: np.ndarray) -> float:
    """Of a fold, at the best threshold of the others."""
    others = ~held_out
    if same[others].all() or not same[others].any():
        raise ValueError(
            "fold must leave same and different pairs outside of every fold"
        )
    thresholds, accepted, false = _points(scores[others], same[others])
    threshold = thresholds[np.argmax(accepted - false)]
    return float(np.mean((scores[held_out] >= threshold) == same[held_out]))


def _rate_at(hits: np.ndarray, misses: np.ndarray, rate: float) -> float:
    """The share of hits above all but the allowed share of misses; NaN if below one."""
    allowed = math.floor(rate * len(misses) * (1 + 1e-12))
    if not allowed:
        return math.nan
    if allowed == len(misses):
        return float(np.mean(hits > -np.inf))
    at = len(misses) - 1 - allowed
    return float(np.mean(hits > np.partition(misses, at)[at]))


def _equal_error(far: np.ndarray, frr: np.ndarray) -> float:
    """Where two piecewise linear curves over the same points cross."""
    above = int(np.argmax(far >= frr))  # not the first, at FAR 0 and FRR 1
    gap = frr - far
    share = gap[above - 1] / (gap[above - 1] - gap[above])
    return float(far[above - 1] + share * (far[above] - far[above - 1]))


def open_set(
    scores: Any,
    correct: Any,
    mated: Any,
    *,
    firs: float | Sequence[float] = (1e-1, 1e-2, 1e-3),
) -> dict[float, float]:
    """Detection and identification rate at false identification rates.

    A probe is identified as its best match where that scores at least the threshold.
    FIR (FPIR) is the share of probes without a mate in the gallery that are identified
    at all; DIR the share of those with a mate that are, and as that mate. The threshold
    is the lowest whose FIR is not above the one asked for (Phillips, Grother, Micheals,
    "Evaluation Methods in Face Recognition", in Handbook of Face Recognition, 2011).

    Args:
      scores: [probes], of each probe's best match.
      correct: [probes] bool, whether that is a mate; of equally good matches take a
        wrong one, so that a tie is no success.
      mated: [probes] bool, whether the gallery has a mate.
      firs: rates from 0 to 1, or one.

    Returns:
      DIR by FIR; NaN where FIR times probes without a mate is below 1.

    Raises:
      ValueError: NaN, a wrong shape, probes of one kind alone, or a correct match of a
        probe without a mate.
      TypeError: `correct` or `mated` is not bool.
    """
    firs = checks.as_rates("firs", firs)
    scores, correct, mated = _probes(scores, correct, mated)
    if mated.all() or not mated.any():
        raise ValueError(
            "mated must hold probes with and without a mate, "
            f"got {mated.sum()} of {len(mated)} with one"
        )
    detected = np.where(correct, scores, -np.inf)[mated]
    return {x: _rate_at(detected, scores[~mated], x) for x in firs}


def global_average_precision(scores: Any, correct: Any, mated: Any) -> float:
    """Average precision of all probes' best matches in one ranking (GAP, micro-AP).

    With probes sorted by the score of their best match, and M those that have a mate:

        sum over ranks j of a correct match of P(j) / M

    where P(j) is the share of correct ones among the first j (Perronnin, Liu, Renders,
    "A Family of Contextual Measures of Similarity between Distributions with
    Application to Image Retrieval", CVPR 2009, as the recognition tasks of Google
    Landmarks and Met use it). Of equal scores the wrong ones come first.

    Args:
      scores, correct, mated: of `open_set`; all probes may have a mate.

    Returns:
      From 0 to 1.

    Raises:
      ValueError: NaN, a wrong shape, no probe with a mate, or a correct match of a
        probe without one.
      TypeError: `correct` or `mated` is not bool.
    """
    scores, correct, mated = _probes(scores, correct, mated)
    if not mated.any():
        raise ValueError("mated must hold a probe with a mate, got none")
    hit = correct[np.lexsort((correct, -scores))]
    precision = np.cumsum(hit) / np.arange(1, len(hit) + 1)
    return float(precision[hit].sum() / mated.sum())


def _probes(
    scores: Any, correct: Any, mated: Any
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    scores = checks.as_values("scores", scores)
    correct = checks.as_mask("correct", correct, len(scores))
    mated = checks.as_mask("mated", mated, len(scores))
    if np.any(correct & ~mated):
        at = np.flatnonzero(correct & ~mated)[0]
        raise ValueError(f"correct must be False without a mate, got True at {at}")
    return scores, correct, mated
