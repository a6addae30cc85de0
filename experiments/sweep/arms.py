"""What a sweep compares: a loss with its mining, batch and numbers."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, Literal

from rankjax import losses, mining, similarity, terms
from rankjax.objective import Objective, objective


@dataclasses.dataclass(frozen=True)
class Arm:
    """One way to train.

    Attributes:
      loss: a name in `rankjax.losses.LOSSES`.
      options: settings of the loss that are not numbers, such as negatives="all".
      selection: of a triplet loss, a name in `rankjax.mining.SELECTIONS`.
      miner: a name in `rankjax.mining.MINERS`.
      miner_options: its settings.
      measure: a name in `rankjax.similarity`, or the loss's own.
      reduction: a name in `rankjax.terms`.
      normalize: whether embeddings are scaled to length 1 before the loss.
      classes: in a batch.
      per_class: rows of each.
      repeats: draws the classes of a batch with replacement; the same class may then
        come several times. 'blind' gives each its own label all the same.
      optimizer: adam or sgd, with momentum 0.9.
      numbers: settings of the loss that are numbers, `learning_rate`, and `l2_weight`
        of the mean squared length. They may differ from cell to cell.
      searched: numbers to be searched for on the validation classes, from and to; on a
        log scale where both are above 0.
    """

    loss: str
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    selection: str | None = None
    miner: str | None = None
    miner_options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    measure: str | None = None
    reduction: Literal["mean", "mean_active"] = "mean"
    normalize: bool = True
    classes: int = 32
    per_class: int = 2
    repeats: Literal["never", "blind", "aware"] = "never"
    optimizer: Literal["adam", "sgd"] = "adam"
    numbers: Mapping[str, float] = dataclasses.field(default_factory=dict)
    searched: Mapping[str, tuple[float, float]] = dataclasses.field(
        default_factory=dict
    )

    @property
    def batch(self) -> int:
        """Rows of a batch."""
        return self.classes * self.per_class

    def objective(self) -> Objective:
        """The loss of a batch, which also tells the share of terms above zero."""
        settings = dict(self.options)
        if self.selection is not None:
            settings["selection"] = mining.SELECTIONS[self.selection]
        miner = None
        if self.miner is not None:
            miner = functools.partial(mining.MINERS[self.miner], **self.miner_options)
        return objective(
            functools.partial(losses.LOSSES[self.loss], **settings),
            mining=miner,
            similarity=getattr(similarity, self.measure) if self.measure else None,
            reduction=getattr(terms, self.reduction),
            has_aux=True,
        )
