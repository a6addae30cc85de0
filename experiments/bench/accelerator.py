"""One accelerator in ten minutes: losses, training steps, retrieval, exactness.

python -m experiments.bench.accelerator --json FILE [--seconds 480] [--tiny]

It needs jax, flax, optax and NumPy alone, and times the first device that JAX has. Each
figure is a row of FILE, and so is, with its reason, what could not be run: for want of
memory, of time, or of a package.

    exactness   value and gradient of a loss on the device and on this machine's CPU:
                the largest difference over the CPU's largest entry
    losses      a loss and its gradient, and `over_limit`, the time over that of the
                four matrix products that SupCon's value and gradient need, block by
                block with nothing stored, in the same precision; where it is
                installed, pytorch-metric-learning beside it
    steps       a bfloat16 training step of ResNet-50 and of ViT-S/14 with SupCon, and
                the loss's share of it: of a batch that fits, and of one of 4,096 images
                by the loss's own time there
    retrieval   Recall@1, and all metrics, of every row among all others

`--tiny` has sizes for a CPU, which say only that it all runs.
"""

import argparse
import functools
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax import lax

from experiments.bench import timing
from experiments.bench.output import Row, save, to_write
from experiments.bench.timing import Rep, Shape
from rankjax import losses, metrics, models, objective

Case = tuple[Row, Callable[[], Row]]

LOSSES: dict[str, Callable[..., Any]] = {
    "sup_con": losses.sup_con_loss,
    "multi_similarity": losses.multi_similarity_loss,
    "triplet": functools.partial(losses.triplet_loss, margin=0.3),
}
_PEERS = {"sup_con": "SupConLoss", "multi_similarity": "MultiSimilarityLoss"}
_MOST_OF_PEER = 8192  # rows; its matrices of pairs are stored several times
_BLOCK = 1024
_STEP_LOSS = functools.partial(losses.sup_con_loss, temperature=0.1)
_LARGE = 4096


class Sizes:
    """What is run: on an accelerator, or tiny."""

    def __init__(self, *, tiny: bool) -> None:
        """The sizes."""
        self.batches = (64, 128) if tiny else (1024, 8192, 65536)
        self.dims = (16,) if tiny else (128, 512)
        self.exact = Shape(64, 16) if tiny else Shape(1024, 128)
        # Pixels and images of a step.
        self.steps = (
            {"resnet50": (32, 4), "dinov2_small": (28, 4)}
            if tiny
            else {"resnet50": (224, 128), "dinov2_small": (224, 128)}
        )
        self.large = 64 if tiny else _LARGE
        self.rows = (300, 1000) if tiny else (60_502, 1_000_000)


def wall(call: Callable[[], Any]) -> float:
    """Seconds of one call, the least of up to fifty or of one second."""
    jax.block_until_ready(call())
    found = timing.interleaved(
        {"": lambda: timing.timed(lambda: jax.block_until_ready(call()))},
        reps=50,
        seconds=1.0,
    )
    reps: list[Rep] = found[0][""]
    return timing.spread(reps)["wall_min_s"]


def four_products(x: jax.Array) -> jax.Array:
    """Similarities, once for the value and once more for the gradient, and their
    products with the rows of either side; [B, D]."""
    block = min(_BLOCK, len(x))
    exact = None if x.dtype == jnp.bfloat16 else lax.Precision.HIGHEST
    product = functools.partial(
        jnp.matmul, precision=exact, preferred_element_type=jnp.float32
    )

    def one(total: jax.Array, part: jax.Array) -> tuple[jax.Array, jax.Array]:
        first, again = product(part, x.T), product(2 * part, x.T)
        first, again = first.astype(x.dtype), again.astype(x.dtype)
        return total + product(again.T, part), product(first, x)

    rows = x.reshape(-1, block, x.shape[1])
    total, other = lax.scan(one, jnp.zeros(x.shape, jnp.float32), rows)
    return total + other.reshape(x.shape)


def _batch(shape: Shape, dtype: Any = jnp.float32) -> tuple[jax.Array, jax.Array]:
    x, labels = timing.clusters(shape)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    return jnp.asarray(x, dtype), jnp.asarray(labels)


def exactness(sizes: Sizes) -> Iterator[Case]:
    """Every loss here, on the device and on the CPU."""
    for name, loss in LOSSES.items():
        shape = sizes.exact

        def run(loss: Any = loss, shape: Shape = shape) -> Row:
            compute = jax.value_and_grad(objective(loss))
            arguments = _batch(shape)
            places = jax.devices()[0], jax.devices("cpu")[0]
            here, there = (
                jax.tree.map(
                    np.asarray, jax.jit(compute)(*jax.device_put(arguments, place))
                )
                for place in places
            )
            value, gradient = (
                float(np.abs(a - b).max() / np.abs(b).max())
                for a, b in zip(here, there, strict=True)
            )
            return {"value_differs": value, "gradient_differs": gradient}

        yield {"what": name, "B": shape.B, "D": shape.D, "dtype": "float32"}, run


def losses_over_products(sizes: Sizes) -> Iterator[Case]:
    """Losses at every size, with the products of the same batch beside each."""
    for batch in sizes.batches:
        for dim in sizes.dims:
            for dtype in (jnp.bfloat16, jnp.float32):
                key = {"B": batch, "D": dim, "dtype": dtype.__name__}
                limit: list[float] = []

                def bare(shape: Shape, dtype: Any, limit: list[float]) -> Row:
                    x, _ = _batch(shape, dtype)
                    limit.append(wall(functools.partial(jax.jit(four_products), x)))
                    return {"wall_s": limit[0]}

                def run(loss: Any, shape: Shape, dtype: Any, limit: list[float]) -> Row:
                    compute = jax.jit(jax.value_and_grad(objective(loss)))
                    seconds = wall(functools.partial(compute, *_batch(shape, dtype)))
                    over = {"over_limit": seconds / limit[0]} if limit else {}
                    return {"wall_s": seconds, **over}

                given = (Shape(batch, dim), dtype, limit)
                yield key | {"what": "four products"}, functools.partial(bare, *given)
                for name, loss in LOSSES.items():
                    yield key | {"what": name}, functools.partial(run, loss, *given)
            for name in _PEERS:
                yield (
                    {"what": f"{name}, pytorch-metric-learning", "B": batch}
                    | {"D": dim, "dtype": "float32"},
                    functools.partial(_peer, name, Shape(batch, dim)),
                )


def _peer(name: str, shape: Shape) -> Row:
    """The peer's loss and gradient on its own device."""
    try:
        import torch
        from pytorch_metric_learning import losses as theirs
    except ImportError as error:
        return {"note": f"{error.name} is not installed"}
    if shape.B > _MOST_OF_PEER:
        return {"note": f"not run above {_MOST_OF_PEER:,} rows"}
    place = "cuda" if torch.cuda.is_available() else "cpu"
    x, y = (torch.tensor(np.asarray(a), device=place) for a in _batch(shape))
    x.requires_grad_()
    loss = getattr(theirs, _PEERS[name])()

    def call() -> float:
        x.grad = None
        loss(x, y.long()).backward()
        return float(x.grad.sum())

    return {"wall_s": wall(call), "device": place}


def steps(sizes: Sizes) -> Iterator[Case]:
    """Training steps, with a loss that costs nothing and with SupCon."""
    for name, (pixels, images) in sizes.steps.items():
        run = functools.partial(_step, name, pixels, images, sizes.large)
        yield {"what": name, "B": images, "dtype": "bfloat16", "pixels": pixels}, run


def _step(name: str, pixels: int, images: int, large: int) -> Row:
    network = models.build(
        name,
        channels=3,
        embedding_dim=128,
        normalize=True,
        image_size=pixels,
        layers=models.Layers(None, nnx.Rngs(0), dtype=jnp.bfloat16),
    )
    split: Any = nnx.split(network, nnx.Param, ...)
    definition, params, rest = split
    optimizer = optax.adamw(1e-4)
    moments = optimizer.init(params)
    labels = jnp.arange(images) // 2
    batch = np.random.default_rng(0).integers(0, 256, (images, pixels, pixels, 3), "u1")
    compute = objective(_STEP_LOSS)

    def step(full: bool, params: Any, moments: Any, x: jax.Array) -> Any:
        def value(params: Any) -> tuple[jax.Array, Any]:
            model = nnx.merge(definition, params, rest, copy=True)
            embeddings = model(x)
            loss = compute(embeddings, labels) if full else embeddings.sum()
            return loss, nnx.state(model, nnx.Not(nnx.Param))

        (loss, after), gradients = jax.value_and_grad(value, has_aux=True)(params)
        updates, moments = optimizer.update(gradients, moments, params)
        return optax.apply_updates(params, updates), moments, after, loss

    arguments = params, moments, jnp.asarray(batch)
    alone, whole = (
        wall(functools.partial(jax.jit(functools.partial(step, full)), *arguments))
        for full in (False, True)
    )
    loss = jax.jit(jax.value_and_grad(compute))
    own = wall(functools.partial(loss, *_batch(Shape(large, 128))))
    return {
        "wall_s": whole,
        "images_per_s": images / whole,
        "loss_share": 1 - alone / whole,
        f"loss_share_at_{large}": own / (own + alone * large / images),
    }


def retrieval(sizes: Sizes) -> Iterator[Case]:
    """Every row among all others."""
    for rows in sizes.rows:
        for what, options in (
            ("recall", {"recall_at": 1, "first_only": True}),
            ("all metrics", {"recall_at": 1}),
        ):

            def run(rows: int = rows, options: Any = options) -> Row:
                x, labels = timing.clusters(Shape(rows - rows % 5, 128, 5))
                search = metrics.leave_one_out(x, labels)
                timed = timing.timed(
                    lambda: metrics.retrieval(
                        search, devices=jax.devices()[:1], **options
                    )
                )
                return {"wall_s": timed.wall_s, "note": "with compiling"}

            yield {"what": what, "rows": rows, "D": 128}, run


PARTS: dict[str, Callable[[Sizes], Iterator[Case]]] = {
    "exactness": exactness,
    "losses": losses_over_products,
    "steps": steps,
    "retrieval": retrieval,
}


def bench(sizes: Sizes, seconds: float, *, say: Callable[[Row], None]) -> None:
    """Runs all parts, each within its share of the time; `say` gets every row."""
    begin = time.perf_counter()
    for number, (part, cases) in enumerate(PARTS.items(), start=1):
        until = seconds * number / len(PARTS)
        for key, run in cases(sizes):
            row: Row = {"part": part, **key}
            if time.perf_counter() - begin > until:
                say(row | {"note": "not run: the time of this part was up"})
                continue
            try:
                say(row | run())
            except (jax.errors.JaxRuntimeError, RuntimeError, MemoryError) as error:
                reason = (str(error).splitlines() or [type(error).__name__])[0]
                say(row | {"note": f"failed: {reason[:200]}"})


def about() -> Row:
    """The device, and versions."""
    device = jax.devices()[0]
    return {
        "part": "device",
        "what": device.device_kind,
        "platform": device.platform,
        "versions": timing.versions("jax", "jaxlib", "flax", "optax", "numpy"),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--json", type=to_write, required=True, help="file for the rows"
    )
    parser.add_argument("--seconds", type=float, default=480, help="in all, about")
    parser.add_argument("--tiny", action="store_true", help="sizes for a CPU")
    options = parser.parse_args(arguments)
    rows: list[Row] = []

    def say(row: Row) -> None:
        rows.append(
            {k: round(v, 9) if isinstance(v, float) else v for k, v in row.items()}
        )
        print("  ".join(f"{k} {_text(v)}" for k, v in row.items()), flush=True)
        save(options.json, rows)

    first = about()
    say(first)
    if first["platform"] == "cpu" and not options.tiny:
        print("there is no accelerator: most will not be run in time", file=sys.stderr)
    bench(Sizes(tiny=options.tiny), options.seconds, say=say)
    return 0


def _text(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    sys.exit(main())
