"""Learned rows that stand for classes, in the space of embeddings."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from rankjax.inputs import References, check_count


class Proxies(nnx.Module):
    """Class rows for losses that compare embeddings with proxies or centres.

    `embeddings` is a parameter like those of the network, [classes * per_class, dim];
    `labels` is a NumPy array, the class of each row. Rows of a class are consecutive,
    as losses with several centres want them.

    Rows start as independent normals of variance 1 / dim: directions are uniform and
    lengths about 1, so that cosines and distances both start sensibly. Published code
    gives proxies a learning rate of their own, often 100 times the network's:

        >>> import jax, jax.numpy as jnp, optax
        >>> from flax import nnx
        >>> import rankjax
        >>> from rankjax.models.proxies import Proxies
        >>> network = nnx.Linear(3, 2, rngs=nnx.Rngs(0))
        >>> proxies = Proxies(2, 2, rngs=nnx.Rngs(1))
        >>> params = {"network": nnx.state(network), "proxies": nnx.state(proxies)}
        >>> optimizer = optax.multi_transform(
        ...     {"network": optax.adamw(1e-4), "proxies": optax.adamw(1e-2)},
        ...     {"network": "network", "proxies": "proxies"})
        >>> moments = optimizer.init(params)
        >>> compute = rankjax.objective(rankjax.losses.proxy_anchor_loss)
        >>> def loss(params, x, y):
        ...     z = nnx.merge(nnx.graphdef(network), params["network"])(x)
        ...     rows = nnx.merge(nnx.graphdef(proxies), params["proxies"])
        ...     return compute(z, y, references=rows.references())
        >>> x, y = jnp.eye(3), jnp.array([0, 0, 1])
        >>> value, grads = jax.value_and_grad(loss)(params, x, y)
        >>> updates, moments = optimizer.update(grads, moments, params)
        >>> params = optax.apply_updates(params, updates)
        >>> bool(loss(params, x, y) < value)
        True
    """

    def __init__(
        self,
        num_classes: int,
        dim: int,
        *,
        per_class: int = 1,
        multiple_of: int = 1,
        rngs: nnx.Rngs,
    ) -> None:
        """Draws the rows.

        Args:
          num_classes: how many classes there are.
          dim: of an embedding.
          per_class: rows of each class.
          multiple_of: of this many rows there are some times as many, the last ones
            of no class, so that devices can have equal shares.
          rngs: for the draws.

        Raises:
          ValueError: a number is not whole or below 1.
        """
        sizes = {"num_classes": num_classes, "dim": dim, "per_class": per_class}
        for name, size in sizes.items():
            check_count(name, size, 1)
        self.num_classes, self.per_class = num_classes, per_class
        shape = (-(-num_classes * per_class // multiple_of) * multiple_of, dim)
        rows = jax.random.normal(rngs.params(), shape) / np.sqrt(dim)
        self.embeddings = nnx.Param(rows)

    @property
    def labels(self) -> np.ndarray:
        """[rows] int32, the class of each row: 0, ..., 0, 1, ..."""
        rows = np.arange(len(self.embeddings[...]), dtype=np.int32)
        return rows // self.per_class

    def references(self) -> References:
        """Makes the rows references of an objective, the same on every device."""
        valid = self.labels < self.num_classes
        return References(
            self.embeddings[...],
            self.labels,
            None if valid.all() else valid,
            replicated=True,
        )


def is_of_proxies(path: tuple[Any, ...]) -> bool:
    """Whether a path in a training state leads to class rows or their moments."""
    return any(getattr(key, "key", None) == "proxies" for key in path)


class WithLoss(nnx.Module):
    """A network, and what its loss learns beside it: proxies, hyper-parameters.

    It is called like the network alone; a training step hands the rest to the
    objective.
    """

    def __init__(
        self,
        network: Callable[[jax.Array], jax.Array],
        *,
        proxies: Proxies | None = None,
        learned: Mapping[str, float] | None = None,
    ) -> None:
        """Puts them together.

        Args:
          network: images to embeddings.
          proxies: class rows, or None for a loss that compares the batch with itself.
          learned: where to start with hyper-parameters of the loss that are trained.
        """
        self.network = network
        self.proxies = proxies
        self.learned = nnx.Dict(
            {
                name: nnx.Param(jnp.asarray(value, jnp.float32))
                for name, value in (learned or {}).items()
            }
        )

    def __call__(self, images: jax.Array) -> jax.Array:
        """The network's embeddings."""
        return self.network(images)

    def for_objective(self) -> dict[str, Any]:
        """Collects what an objective gets besides embeddings and labels."""
        given: dict[str, Any] = {
            "params": {name: value[...] for name, value in self.learned.items()}
        }
        if self.proxies is not None:
            given["references"] = self.proxies.references()
        return given
