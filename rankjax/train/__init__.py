"""Training: a pure step, its state on disk, and evaluation on unseen classes."""

from rankjax.train.checkpoint import Checkpoints
from rankjax.train.evaluation import (
    evaluate,
    evaluate_test,
    forward_of,
    make_embed,
    over_images,
    pixels,
    thumbnails,
)
from rankjax.train.monitor import Monitor
from rankjax.train.run_folder import RunFolder, read_history
from rankjax.train.step import TrainState, create_state, make_step

__all__ = [
    "Checkpoints",
    "Monitor",
    "RunFolder",
    "TrainState",
    "create_state",
    "evaluate",
    "evaluate_test",
    "forward_of",
    "make_embed",
    "make_step",
    "over_images",
    "pixels",
    "read_history",
    "thumbnails",
]
