"""A trained run, read back from its folder."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import optax
from flax import nnx

from experiments.config import FEATURES, SETTINGS, Config
from experiments.pretrained import job_of
from experiments.training.network import adapt, network
from experiments.training.optimizer import Parts
from rankjax import exported
from rankjax.errors import RunError, UsageError
from rankjax.exported import CONTENTS, Inputs, Network
from rankjax.files import read_json
from rankjax.models import SCALES, Embedder, merge_lora
from rankjax.models.proxies import WithLoss
from rankjax.train import (
    Checkpoints,
    TrainState,
    create_state,
    forward_of,
    read_history,
)
from rankjax.train.evaluation import Forward

Which = Literal["latest", "best"]

INPUTS, WEIGHTS = "inputs.json", "weights.json"
"""Files in a run's folder: what its images are like, and what it began with."""


class Run(NamedTuple):
    """A trained network.

    Attributes:
      path: the run's folder.
      config: its settings; where its data was kept is not among them.
      inputs: what its images are like.
      definition: of the network, for `make_embed`.
      state: parameters and other variables of the network alone, and the step.
      step: of the checkpoint.
      backbone: what makes the features that the network trained on, where it did.
    """

    path: Path
    config: Config
    inputs: Inputs
    definition: Any
    state: TrainState
    step: int
    backbone: Network | None = None

    def network(self) -> Network:
        """What embeds images."""
        forward: Forward = forward_of(self.definition)
        variables: Any = self.state.evaluated
        if self.backbone is not None:
            forward = _after(self.backbone.forward, forward)
            variables = (self.backbone.variables, variables)
        return Network(
            self.inputs, self.config.model.normalize, self.step, forward, variables
        )


def _after(backbone: Forward, head: Forward) -> Forward:
    """A head on the features of a backbone, from the variables of both."""

    def forward(variables: Any, images: jax.Array) -> jax.Array:
        return head(variables[1], backbone(variables[0], images)[:, None, None])

    return forward


def load_network(
    path: Path, *, which: Which = "latest", weights: Path | None = None
) -> Network:
    """The network of a run's folder, or one that `experiments.export` wrote.

    Args:
      path: the folder.
      which, weights: as of `load_run`.

    Raises:
      UsageError: see `load_run`.
      RunError: the folder holds neither, or it is damaged.
    """
    if (path / exported.CONTENTS).is_file():
        if weights is not None:
            raise UsageError(f"weights must be left out: {path} has its own")
        return exported.load(path)
    return load_run(path, which=which, weights=weights).network()


def network_of(
    file: Path, job: Mapping[str, Any], *, weights: Path | None = None
) -> Network:
    """The network that a file was made by.

    Args:
      file: for errors.
      job: what `experiments.embed` said of the network.
      weights: the backbone's file, if it is not where it was.

    Raises:
      UsageError: weights are given, but the network has its own.
      RunError: it is not there, or has been trained further since.
    """
    folder, pretrained = Path(job["network"]), job.get("pretrained")
    if pretrained is None:
        network = load_network(folder, which=job["checkpoint"], weights=weights)
    else:
        place = folder if weights is None else weights.expanduser().absolute()
        if not place.is_file():
            raise RunError(
                f"{file} was made by {pretrained.model} with weights that are not at "
                f"{place}; give --weights FILE"
            )
        network, loaded = dataclasses.replace(pretrained, weights=str(place)).load()
        if loaded.sha256 != job.get("sha256"):
            raise RunError(
                f"{file} was made by other weights than {place} has now; give those, "
                "or embed the images again"
            )
    if network.step != job["step"]:
        raise RunError(
            f"{file} was made by {folder} at step {job['step']}, which is at step "
            f"{network.step} now; embed the images again"
        )
    return network.shortened(job["dim"]) if "dim" in job else network


def load_run(
    path: Path,
    *,
    which: Which = "latest",
    weights: Path | None = None,
    images: bool = True,
) -> Run:
    """Reads a run that `experiments.train` made; also while it is still trained.

    Adapters are merged into the maps that they adapt.

    Args:
      path: the run's folder.
      which: checkpoint, the last one or that of the best validation, which is the last
        one, too, where too few classes validate.
      weights: of the backbone, where the run trained on its features and the file is
        not where it was.
      images: whether the run is to embed images; else, what it trained on.

    Raises:
      UsageError: weights are given to a run that has its own.
      RunError: the folder holds no run, or one without a checkpoint yet, of another
        version, or damaged; or images are asked of a run that trained on features of
        an unknown network, or of one that is not there.
    """
    if not (path / "config.json").is_file():
        why = "it has no config.json" if path.is_dir() else "there is no such folder"
        why = "it is a file" if path.is_file() else why
        if (path / CONTENTS).is_file():
            why = (
                "it is an exported network, which experiments.embed takes; evaluate "
                "and inspect what it writes"
            )
        raise RunError(f"{path} holds no run: {why}")
    config = read_config(path)
    stored = dict(read_json(path / INPUTS))
    on_damage = stored.pop("on_damage", config.data.on_damage)
    made_by = stored.pop("made_by", None)
    config = config.replace(on_damage=on_damage)
    try:
        inputs = Inputs.of(stored)
    except TypeError as error:
        raise RunError(f"{path / INPUTS}: damaged, {error}") from error
    if not (path / "checkpoints").is_dir():
        raise RunError(f"{path} has no checkpoint yet")

    scale = read_scale(path / WEIGHTS)

    def abstract() -> Embedder:
        rngs = nnx.Rngs(0)
        model = network(
            config.model,
            image_size=config.data.size(),
            channels=inputs.channels,
            axis_name=None,
            rngs=rngs,
        )
        if scale is not None:
            model.scale = SCALES[scale]
        adapt(config.model, model, rngs)
        return model

    model = nnx.eval_shape(abstract)
    parts = Parts(config.optimizer, config.loss, model.backbone)
    has_more = config.loss.proxies_per_class or config.loss.learn
    definition, like = create_state(
        WithLoss(model) if has_more else model, optax.identity(), trained=parts.trained
    )
    if config.optimizer.weight_ema:
        like = like._replace(average=(like.params, like.rest))
    with Checkpoints(path / "checkpoints", read_only=True) as checkpoints:
        step = checkpoints.latest_step()
        if which == "best":
            step = checkpoints.best_step()
        if step is None:
            raise RunError(f"{path} has no checkpoint yet")
        state = checkpoints.restore(step, like, part=True)
    if config.model.lora:
        trained = nnx.merge(definition, *state.evaluated)
        merge_lora(trained)
        definition, merged = create_state(trained, optax.identity())
        state = merged._replace(step=state.step)
    backbone = None
    if images and config.model.name == FEATURES:
        if not made_by:
            raise RunError(
                f"{path} trained on features of a network that nobody told; it embeds "
                "no images"
            )
        job = job_of(path / INPUTS, json.dumps(made_by).encode())
        backbone = network_of(path, job, weights=weights)
        inputs = backbone.inputs
    elif weights is not None:
        raise UsageError(f"weights must be left out: {path} has its own")
    return Run(path, config, inputs, definition, state, step, backbone)


def validation(path: Path, step: int) -> tuple[str, dict[str, float]]:
    """What a run found at a step: on `validation` or `training` images, and figures."""
    for row in read_history(path):
        for name in ("validation", "training"):
            figures = {
                key.removeprefix(f"{name}/"): value
                for key, value in row.items()
                if key.startswith(f"{name}/")
            }
            if figures and row["step"] == step:
                return name, figures
    return "validation", {}


def read_scale(file: Path) -> str | None:
    """How images of pretrained weights were scaled; None where there is no file.

    Raises:
      RunError: the file is damaged.
    """
    if not file.exists():
        return None
    scale = read_json(file).get("scale")
    if scale not in SCALES:
        raise RunError(f"{file}: damaged, its scale is {scale!r}; mend or delete it")
    return scale


def read_config(path: Path) -> Config:
    """The settings of a run's folder.

    Raises:
      RunError: they are missing, damaged, or of another version.
    """
    file = path / "config.json"
    # JSON has no tuples.
    settings: dict[str, Any] = {
        k: tuple(v) if isinstance(v, list) else v for k, v in read_json(file).items()
    }
    unknown = sorted(settings.keys() - SETTINGS)
    if unknown:
        raise RunError(
            f"{file} has settings that this version does not know: {', '.join(unknown)}"
        )
    for name in ("weights", "guide"):
        if settings.get(name):
            settings[name] = Path(settings[name])
    return Config().replace(**settings)
