"""Writes a trained network so that it runs without its code: jax and NumPy are enough.

python -m experiments.export RUN --out DIR [--checkpoint best] [--licence TEXT]
python -m experiments.export RUN --onnx FILE

DIR gets model.jax (StableHLO by jax.export, for any number of images, on cpu, cuda and
tpu), weights.npz, model.json (what images are like), README.md (a model card) and, if
TensorFlow is installed, saved_model. `rankjax.exported.load(DIR)` reads it. FILE is for
onnxruntime and others, and needs the extra `onnx`.
"""

import argparse
import hashlib
import importlib.util
import io
import json
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jax import export

from experiments.config import Config
from experiments.images import fit_of
from experiments.runs import Run, Which, load_run, validation
from rankjax import __version__, exported
from rankjax.data import CATALOGUE
from rankjax.errors import RunError, UsageError
from rankjax.exported import CONTENTS, FORMAT, FUNCTION, WEIGHTS, Inputs
from rankjax.files import new_folder, write_atomic

PLATFORMS = ("cpu", "cuda", "tpu")
_CLOSE = 1e-5
_CLOSE_ONNX = 1e-4
_SAVED_MODEL = "saved_model"


def export_run(run: Run, out: Path, *, licence: str | None = None) -> float:
    """Writes an artefact, and compares it with the run on random images.

    Args:
      run: from `load_run`.
      out: a folder that is not there yet.
      licence: of the weights, for the model card.

    Returns:
      The largest difference of embeddings.

    Raises:
      UsageError: there is something at `out`.
      RunError: it cannot be written, or embeds differently.
    """
    function, weights = _lower(run)
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **weights)
    blobs = {FUNCTION: bytes(function.serialize()), WEIGHTS: buffer.getvalue()}
    contents = {
        "format": FORMAT,
        "inputs": run.inputs._asdict(),
        "embedding_dim": run.config.model.embedding_dim,
        "normalized": run.config.model.normalize,
        "platforms": function.platforms,
        "step": run.step,
        "sha256": {k: hashlib.sha256(blob).hexdigest() for k, blob in blobs.items()},
    }
    with_tensorflow = importlib.util.find_spec("tensorflow") is not None
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with new_folder(out) as folder:
            for name, blob in blobs.items():
                write_atomic(folder / name, blob)
            write_atomic(folder / CONTENTS, json.dumps(contents, indent=2) + "\n")
            if with_tensorflow:
                _save_for_tensorflow(run, weights, folder / _SAVED_MODEL)
            difference = _difference(run, folder)
            card = model_card(
                run, licence=licence, difference=difference, tensorflow=with_tensorflow
            )
            write_atomic(folder / "README.md", card)
            if difference > _CLOSE:
                raise RunError(
                    f"not written: embeddings differ from the run's by {difference:.1e}"
                )
    except FileExistsError as error:
        raise UsageError(f"{out} exists; choose another --out") from error
    except OSError as error:
        raise RunError(f"{out} cannot be written: {error}") from error
    return difference


def _lower(run: Run) -> tuple[export.Exported, dict[str, np.ndarray]]:
    """The program, of weights by name and images, and the weights."""
    network = run.network()
    paths, structure = jax.tree_util.tree_flatten_with_path(network.variables)
    names = [jax.tree_util.keystr(p, simple=True, separator="/") for p, _ in paths]
    weights = {n: np.asarray(x) for n, (_, x) in zip(names, paths, strict=True)}

    def embed(weights: dict[str, jax.Array], images: jax.Array) -> jax.Array:
        leaves = [weights[name] for name in names]
        return network.forward(jax.tree.unflatten(structure, leaves), images)

    shape = export.symbolic_shape(f"n, {', '.join(map(str, run.inputs[:3]))}")
    types = {k: jax.ShapeDtypeStruct(x.shape, x.dtype) for k, x in weights.items()}
    lower = export.export(jax.jit(embed), platforms=PLATFORMS)
    return lower(types, jax.ShapeDtypeStruct(shape, jnp.uint8)), weights


def _difference(run: Run, folder: Path) -> float:
    """The largest one between the embeddings of a run and of its artefact."""
    images = _images(run)
    return float(np.abs(run.network()(images) - exported.load(folder)(images)).max())


def _images(run: Run) -> np.ndarray:
    shape = (3, *run.inputs[:3])
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def _save_for_tensorflow(
    run: Run, weights: dict[str, np.ndarray], folder: Path
) -> None:
    import tensorflow as tf
    from jax.experimental import jax2tf

    network = run.network()
    structure = jax.tree.structure(network.variables)
    height, width, channels = run.inputs[:3]
    convert = jax2tf.convert(
        lambda leaves, images: network.forward(
            jax.tree.unflatten(structure, leaves), images
        ),
        polymorphic_shapes=[None, f"n, {height}, {width}, {channels}"],
        native_serialization_platforms=PLATFORMS,
    )
    module = tf.Module()
    module.weights = [tf.Variable(x, trainable=False) for x in weights.values()]
    kind = tf.TensorSpec((None, height, width, channels), tf.uint8, "images")
    module.embed = tf.function(
        lambda images: {"embeddings": convert(module.weights, images)},
        input_signature=[kind],
        autograph=False,
    )
    tf.saved_model.save(
        module, str(folder), signatures={"serving_default": module.embed}
    )


def write_onnx(run: Run, file: Path) -> float:
    """Writes an ONNX file, of any number of images, that onnxruntime reads back.

    Args:
      run: from `load_run`.
      file: a path where nothing is yet.

    Returns:
      The largest difference of its embeddings from those of the run.

    Raises:
      UsageError: the extra is not installed, or there is something at `file`.
      RunError: jax2onnx has no way to write the network, or writes another one.
    """
    try:
        import jax2onnx
        import onnxruntime
    except ImportError as error:
        raise UsageError(f"onnx: {error}; pip install 'rankjax[onnx]'") from error
    if file.exists():
        raise UsageError(f"{file} exists; choose another --onnx")
    network, name = run.network(), run.config.model.name
    images = _images(run)
    try:
        blob = jax2onnx.to_onnx(
            lambda images: network.forward(network.variables, images),
            [jax.ShapeDtypeStruct(("n", *run.inputs[:3]), jnp.uint8)],
            input_names=["images"],
            output_names=["embeddings"],
        ).SerializeToString()
        session = onnxruntime.InferenceSession(blob, providers=["CPUExecutionProvider"])
        (found,) = session.run(None, {"images": images})
    except Exception as error:  # both raise all kinds
        reason = str(error).splitlines()[0]
        raise RunError(
            f"not written: jax2onnx {version('jax2onnx')} cannot convert {name}, "
            f"{reason:.200}"
        ) from error
    difference = float(np.abs(network(images) - found).max())
    if not difference <= _CLOSE_ONNX:
        raise RunError(
            f"not written: jax2onnx {version('jax2onnx')} converts {name} to another "
            f"network, embeddings differ by {difference:.1e}"
        )
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(file, blob)
    except OSError as error:
        raise RunError(f"{file} cannot be written: {error}") from error
    return difference


def model_card(
    run: Run, *, licence: str | None, difference: float, tensorflow: bool
) -> str:
    """Markdown: what the network is, how to use it, and how it was made and judged."""
    config, inputs = run.config, run.inputs
    entry = CATALOGUE.get(config.data.dataset)
    data = f"`{config.data.dataset}`"
    if entry:
        data += f": {entry.source}. Split: {entry.split}. Licence: {entry.licence}."
    licence = licence or (
        "Not stated by whoever exported them. Mind the licences of the data above and "
        "of the weights that training began with."
    )
    default, stored = Config().flat(), config.settings()
    settings = {
        name: value
        for name, value in config.flat().items()
        if name in stored and value != default[name]
    }
    dim = config.model.embedding_dim
    length = "of length 1" if config.model.normalize else "of any length"
    use_tensorflow = """
In TensorFlow:

```python
embed = tf.saved_model.load("saved_model").signatures["serving_default"]
embeddings = embed(images=images)["embeddings"]
```
"""
    return f"""# {config.model.name} embeddings, trained on {config.data.dataset}

Maps images to {dim} numbers, {length}; the nearer two are by cosine,
the likelier their images are of one class.

## Use

With `pip install rankjax flatbuffers`, which brings jax and NumPy:

```python
import rankjax.exported

network = rankjax.exported.load("{{this folder}}")
embeddings = network(images)
```
{use_tensorflow if tensorflow else ""}
`images` are uint8 [n, {inputs.height}, {inputs.width}, {inputs.channels}]; mean and
deviation are inside. {_preparation(inputs)}

JAX reads its export format for at least six months after the release that wrote it,
here {jax.__version__}.

## Data

{data}

## Metrics

{_metrics(run)}

## Training

`experiments.train` of rankjax {__version__}, {run.step:,} steps; what differs from its
default settings:

{_table(("setting", "value"), settings)}

Versions at export: jax {version("jax")}, flax {version("flax")}. Exported for
{", ".join(PLATFORMS)}; on {jax.default_backend()} embeddings differ from the trained
network's by {difference:.1e} at most.

## Licence of the weights

{licence}
"""


def _preparation(inputs: Inputs) -> str:
    kind = "grey" if inputs.channels == 1 else "RGB"
    how = {
        "squash": "stretched to that size (bilinear)",
        "letterbox": "resized to fit into it (bilinear), margins filled with the "
        "median colour of their edges",
        "crop": "the short side resized to "
        f"{inputs.short_side or min(inputs[:2])} pixels (bilinear), the centre cut out",
    }[fit_of(inputs)]
    alpha = {"drop": "dropped"}.get(inputs.alpha, f"blended on {inputs.alpha}")
    return f"They are {kind}: {how}. Alpha is {alpha}."


def _metrics(run: Run) -> str:
    summary = run.path / "summary.json"
    if run.step == run.config.optimizer.steps and summary.is_file():
        figures = json.loads(summary.read_text())["test"]
        title = "On test classes, which training never saw"
    else:
        name, figures = validation(run.path, run.step)
        title = f"On {name} images, after step {run.step:,}"
    rows = {name: f"{value:.4f}" for name, value in figures.items()}
    return f"{title}:\n\n{_table(('metric', 'value'), rows)}"


def _table(head: tuple[str, str], rows: dict[str, Any]) -> str:
    lines = [f"| {name} | {_cell(value)} |" for name, value in rows.items()]
    return "\n".join([f"| {head[0]} | {head[1]} |", "|---|---|", *lines])


def _cell(value: Any) -> str:
    text = " ".join(map(str, value)) if isinstance(value, tuple) else str(value)
    return text.replace("|", "\\|").replace("\n", " ")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, metavar="RUN", help="folder of a trained run")
    parser.add_argument("--out", type=Path, help="folder to make")
    parser.add_argument("--onnx", type=Path, metavar="FILE", help="ONNX file to make")
    parser.add_argument("--checkpoint", choices=get_args(Which), default="latest")
    parser.add_argument("--licence", help="of the weights, for the model card")
    options = parser.parse_args(arguments)
    if options.out is None and options.onnx is None:
        parser.error("--out or --onnx must be given")
    try:
        run = load_run(options.run, which=options.checkpoint)
        if options.onnx is not None:
            difference = write_onnx(run, options.onnx)
        if options.out is not None:
            difference = export_run(run, options.out, licence=options.licence)
    except (RunError, UsageError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, UsageError) else 1
    print(f"step {run.step:,}; embeddings differ by {difference:.1e}")
    print(*filter(None, (options.onnx, options.out)), sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
