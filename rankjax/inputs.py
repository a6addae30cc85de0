"""Checks of what users hand over, before anything is compiled."""

import dataclasses
import functools
import numbers
from collections.abc import Callable, Iterable, Mapping, Set
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rankjax.mining import MINERS
from rankjax.pairs import BY_LABEL, EVERY, Pairs, Rows
from rankjax.registry import Kind, LossInfo, check_mask, info_of, is_traced
from rankjax.selections import SELECTIONS
from rankjax.similarity import SIMILARITIES, complex_angle
from rankjax.terms import Reduction, Terms, mean, mean_active, total


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class References:
    """Rows to compare a batch with instead of itself.

    Attributes:
      embeddings: [m, dim], of the batch's type.
      labels: [m] or [m, classes], as the batch has them; None where masks are given. A
        row of the batch whose label none of them has is without a positive, and the
        losses of class rows leave it out.
      valid: [m] bool, or None for all; False rows are padding.
      copy_of: [m] int, or None: which row of the batch, over all devices, a reference
        is a copy of, -1 for none; no two are copies of one row. A row and its copy are
        neither a positive nor a negative pair.
      guide: [m, guide's dim], or None; see `rankjax.Objective.__call__`.
      replicated: whether every device holds all of them, as with proxies, rather than
        its share.
      sharded: whether each device has its share of them, and this stays where it is:
        for classes that are too many to gather. Rows of the batch are gathered instead,
        and sums over the references are added over devices. For softmax losses of class
        rows, those with `info.sharded`. Of no effect without an axis.
    """

    embeddings: Any
    labels: Any = None
    valid: Any = None
    copy_of: Any = None
    guide: Any = dataclasses.field(default=None, kw_only=True)
    replicated: bool = dataclasses.field(default=False, metadata={"static": True})
    sharded: bool = dataclasses.field(
        default=False, kw_only=True, metadata={"static": True}
    )


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Positives:
    """A positive for each row of a batch, and negatives that were mined for it.

    They are the references of an objective: row i belongs with positive i, and the
    positives of other rows are its negatives, unless labels of the batch say that they
    are alike. Over devices, each one has those of its own rows.

    Attributes:
      embeddings: [n, dim], of the batch's type.
      negatives: [n, k, dim], or None.
      negatives_valid: [n, k] bool, or None for all; False where a row has fewer.
      guide: [n, guide's dim], or None; see `rankjax.Objective.__call__`.
      negatives_guide: [n, k, guide's dim], or None.
      shared: whether what was mined for one row is a negative of all other rows, too,
        or of this row alone.
    """

    embeddings: Any
    negatives: Any = None
    negatives_valid: Any = dataclasses.field(default=None, kw_only=True)
    guide: Any = dataclasses.field(default=None, kw_only=True)
    negatives_guide: Any = dataclasses.field(default=None, kw_only=True)
    shared: bool = dataclasses.field(
        default=True, kw_only=True, metadata={"static": True}
    )


def check_regularizers(regularizers: Any) -> None:
    """Raises a TypeError for something else than pairs of weight and penalty."""
    if not isinstance(regularizers, list | tuple) or not all(
        isinstance(pair, list | tuple) and len(pair) == 2 for pair in regularizers
    ):
        raise TypeError(
            "regularizers must list pairs of weight and penalty, such as "
            f"[(0.1, rankjax.squared_norm)], got {regularizers!r}"
        )
    for weight, penalty in regularizers:
        check_number("the weight of regularizers", weight)
        check_functions(regularizers=penalty)


def check_params(loss: Any, params: Mapping[str, Any]) -> None:
    """Raises a TypeError for settings that cannot be traced."""
    for name in params:
        if not is_traced(loss, name):
            raise TypeError(
                f"params must be numbers that may change, and {name} shapes the "
                f"computation: bind it by functools.partial(loss, {name}=...)"
            )


def check_count(name: str, value: Any, least: int, most: int | None = None) -> None:
    """Raises a ValueError that names what is no whole number in a range."""
    whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if not whole or value < least or (most is not None and value > most):
        limit = f"at least {least}" if most is None else f"from {least} to {most}"
        raise ValueError(f"{name} must be a whole number, {limit}, got {value!r}")


def check_number(name: str, value: Any) -> None:
    """Raises a TypeError for what is no number and holds none."""
    if not (hasattr(value, "dtype") or isinstance(value, numbers.Real)):
        raise TypeError(f"{name} must be a number, got {value!r}")


def check_key(key: Any) -> None:
    """Raises a TypeError for what is no single key; None is none."""
    dtype = getattr(key, "dtype", np.dtype(bool))
    typed = jnp.issubdtype(dtype, jax.dtypes.prng_key)
    # jax.random.PRNGKey gives the numbers of a key, uint32 [2].
    if key is not None and not (
        key.ndim == 0 if typed else dtype == np.uint32 and key.ndim == 1
    ):
        raise TypeError(
            f"key must be one key, such as jax.random.key(0), got {_shown(key)}"
        )


def as_rows(
    prefix: str, embeddings: Any, labels: Any, valid: Any, guide: Any = None
) -> Rows:
    """Rows from embeddings [n, dim], labels [n] or None, and valid [n] or None.

    Args:
      prefix: 'references.' or '', for the names in messages.
      embeddings: floating point.
      labels: integer, of any values that the platform's integers hold; or [n, classes]
        bool, where a row has several.
      valid: bool; None for all valid.
      guide: floating point [n, any], embeddings by another model; or None.

    Raises:
      ValueError: a wrong shape, or labels that would wrap around.
      TypeError: a wrong type.
    """
    embeddings = _as_embeddings(f"{prefix}embeddings", embeddings)
    n = len(embeddings)
    if guide is not None:
        guide = _as_embeddings(f"{prefix}guide", guide)
        check_shape(f"{prefix}guide", guide, (n, *guide.shape[1:]))
    valid = (
        jnp.ones(n, bool)
        if valid is None
        else _as_array(jnp.asarray, f"{prefix}valid", valid)
    )
    check_shape(f"{prefix}valid", valid, (n,))
    check_mask(f"{prefix}valid", valid)
    if labels is not None:
        labels = as_labels(f"{prefix}labels", labels)
        many = labels.shape[1:] if labels.dtype == bool and labels.ndim == 2 else ()
        check_shape(f"{prefix}labels", labels, (n, *many))
    index = jnp.arange(n, dtype=jnp.int32)
    return Rows(embeddings, valid, index, labels, guide=guide)


def _as_embeddings(name: str, embeddings: Any) -> jax.Array:
    if isinstance(embeddings, np.ma.MaskedArray):
        raise TypeError(f"{name} must not be masked; leave rows out with valid")
    embeddings = _as_array(jnp.asarray, name, embeddings)
    if embeddings.ndim != 2 or not embeddings.size:
        raise ValueError(
            f"{name} must have shape [rows, dim], neither 0, got {embeddings.shape}"
        )
    if not jnp.issubdtype(embeddings.dtype, jnp.floating):
        raise TypeError(f"{name} must be floating point, got {embeddings.dtype}")
    return embeddings


def with_masks(
    batch: Rows, references: Rows | None, positive: Any, negative: Any
) -> Rows:
    """The batch with given masks, or as it was where labels make them.

    Raises:
      ValueError: neither labels nor masks, both, or one mask alone.
      TypeError: a mask is not bool.
    """
    others = batch if references is None else references
    labelled = batch.label is not None and others.label is not None
    if positive is None and negative is None:
        if not labelled:
            missing = "labels" if batch.label is None else "references.labels"
            raise ValueError(
                f"{missing} is None; give labels, or positive and negative, or for a "
                "positive of each row references=rankjax.Positives(embeddings)"
            )
        return batch
    if positive is None or negative is None:
        raise ValueError("positive and negative must be given together")
    if batch.label is not None or others.label is not None:
        raise ValueError(
            "labels and the masks positive and negative exclude each other"
        )
    if not isinstance(positive, jax.Array):
        positive = np.asarray(positive)
    if not isinstance(negative, jax.Array):
        negative = np.asarray(negative)
    for name, mask in (("positive", positive), ("negative", negative)):
        check_mask(name, mask)
    if _is_concrete(positive, negative) and positive.shape == negative.shape:
        both = int(np.sum(np.asarray(positive) & np.asarray(negative)))
        if both:
            raise ValueError(f"positive and negative must not overlap, {both} pairs do")
    return dataclasses.replace(batch, positive=positive, negative=negative)


def _is_concrete(*arrays: Any) -> bool:
    """Says whether arrays lie on the host, where a check costs no transfer."""
    return not any(isinstance(array, jax.Array) for array in arrays)


def reference_rows(references: References, batch: Rows, *, spread: bool) -> Rows:
    """Rows of references, checked against the batch.

    Args:
      references: see `References`.
      batch: the device's own rows.
      spread: whether other devices hold more rows of the batch.

    Raises:
      ValueError: a wrong shape; or, where numbers are concrete, two copies of one row
        or a copy of a row that the batch does not have.
      TypeError: a wrong type.
    """
    if not isinstance(references, References):
        raise TypeError(
            "references must be rankjax.References(embeddings, labels), got "
            f"{type(references).__name__}"
        )
    rows = as_rows(
        "references.",
        references.embeddings,
        references.labels,
        references.valid,
        references.guide,
    )
    check_same_space(batch, rows)
    n, index = len(rows.embeddings), references.copy_of
    if index is None:
        index = jnp.full(n, -1, jnp.int32)
    array = _as_array(jnp.asarray, "references.copy_of", index)
    check_shape("references.copy_of", array, (n,))
    if not jnp.issubdtype(array.dtype, jnp.integer):
        raise TypeError(f"references.copy_of must be integers, got {array.dtype}")
    if not isinstance(index, jax.Array):
        named, counts = np.unique(np.asarray(index), return_counts=True)
        rows_of_batch = len(batch.embeddings)
        beyond = (named >= rows_of_batch) & (not spread)
        outside = named[(named < -1) | beyond]
        if len(outside):
            raise ValueError(
                f"references.copy_of must be a row of the batch, which has "
                f"{rows_of_batch}, or -1 for none, got {outside[0]}"
            )
        twice = named[(named >= 0) & (counts > 1)]
        if len(twice):
            raise ValueError(
                f"references.copy_of names row {twice[0]} twice; a row has one copy"
            )
    return dataclasses.replace(rows, index=array.astype(jnp.int32))


def with_positives(batch: Rows, positives: Positives, first: Any) -> tuple[Rows, Rows]:
    """The batch, with a label of its own for each row if it has none; and references.

    Args:
      batch: the device's own rows.
      positives: see `Positives`.
      first: number of the first row among those of all devices.

    Raises:
      ValueError, TypeError: shapes or types that do not fit the batch.
    """
    n, numbers = len(batch.embeddings), first + batch.index
    label = numbers if batch.label is None else batch.label
    batch = dataclasses.replace(batch, label=label)
    rows = as_rows("references.", positives.embeddings, None, None, positives.guide)
    check_shape(
        "references.embeddings", rows.embeddings, (n, *rows.embeddings.shape[1:])
    )
    other = jnp.full(n, -1, jnp.int32)
    rows = dataclasses.replace(rows, valid=batch.valid, index=other, label=label)
    check_same_space(batch, rows, "Positives")
    if positives.negatives is None:
        for name in ("negatives_valid", "negatives_guide"):
            if getattr(positives, name) is not None:
                raise ValueError(f"references.{name} needs negatives, got None")
        return batch, rows
    shape = jnp.shape(positives.negatives)
    if len(shape) != 3:
        raise ValueError(
            f"references.negatives must have shape ({n}, k, dim), got {shape}"
        )

    def flat(name: str, axes: int) -> Any:
        """Joins the first two axes."""
        if getattr(positives, name) is None:
            return None
        array = jnp.asarray(getattr(positives, name))
        check_shape(f"references.{name}", array, (n, *shape[1:2], *array.shape[2:axes]))
        if name == "negatives_valid":
            check_mask(f"references.{name}", array)
        return array.reshape(-1, *array.shape[2:])

    mined = as_rows(
        "references.negatives.",
        flat("negatives", 3),
        None,
        flat("negatives_valid", 2),
        flat("negatives_guide", 3),
    )
    if (mined.guide is None) != (rows.guide is None):
        raise ValueError(
            "references.guide and references.negatives_guide must be given together"
        )
    owner = jnp.repeat(numbers, shape[1])
    of_owner = jnp.repeat(label, shape[1], axis=0)
    mined = dataclasses.replace(
        mined,
        valid=mined.valid & jnp.repeat(batch.valid, shape[1]),
        index=jnp.full_like(owner, -1),
        label=jnp.zeros_like(of_owner) if label.ndim == 2 else of_owner,
        negative_of=jnp.full_like(owner, EVERY) if positives.shared else owner,
    )
    check_same_space(batch, mined, "Positives")
    rows = dataclasses.replace(rows, negative_of=jnp.full_like(numbers, BY_LABEL))
    return batch, jax.tree.map(lambda *x: jnp.concatenate(x), rows, mined)


def check_references(
    info: LossInfo, references: Rows | None, weights: jax.Array | None
) -> None:
    """Raises where a loss needs references, or takes no weights or mined negatives."""
    mined = references is not None and references.negative_of is not None
    if mined and (info.anchors == "references" or info.kind is Kind.FEATURES):
        raise ValueError(
            "references.negatives must be None, for this loss compares no row with "
            "negatives of its own"
        )
    if info.anchors == "references":
        if references is None:
            raise ValueError(
                "this loss needs references, such as proxies, got references=None"
            )
        if weights is not None:
            raise ValueError(
                "weights count rows of the batch, and this loss has a term per "
                "reference; give weights=None"
            )


def check_sharded(
    references: References, info: LossInfo | None, mining: Any, reduction: Reduction
) -> None:
    """Raises a ValueError where something needs rows that are whole."""
    if references.replicated:
        raise ValueError("references cannot be both replicated and sharded")
    if references.copy_of is not None or references.labels is None:
        raise ValueError("references that are sharded must have labels, and no copy_of")
    if info is None or not info.sharded:
        raise ValueError(
            "this loss needs all references of a row; sharded ones go with softmax "
            "losses of class rows, such as rankjax.losses.arc_face_loss"
        )
    if mining is not None:
        raise ValueError(
            "mining must be None where references are sharded, for a miner chooses "
            "among all of a row"
        )
    if reduction not in (mean, mean_active, total):
        raise ValueError(
            "reduction must be mean, mean_active or total where references are "
            f"sharded, got {reduction.__name__}"
        )


def check_positives(
    references: Any, positive: Any, negative: Any, *, symmetric: bool
) -> None:
    """Raises where `Positives` are needed, or say otherwise than masks.

    Raises:
      TypeError: there is no second direction.
      ValueError: masks are given, too.
    """
    if isinstance(references, Positives) and (
        positive is not None or negative is not None
    ):
        raise ValueError(
            "positive and negative must be None where references are "
            "rankjax.Positives, which say what belongs together"
        )
    if symmetric and not isinstance(references, Positives):
        raise TypeError(
            "symmetric=True needs references=rankjax.Positives(embeddings), got "
            f"{type(references).__name__}"
        )


def check_functions(**functions: Any) -> None:
    """Raises a TypeError for names, and for functions that are something else."""
    for name, value in functions.items():
        if name == "reduction" and not isinstance(value, Reduction):
            raise TypeError(
                "reduction must be a rankjax.Reduction, such as rankjax.mean, got "
                f"{_shown(value)}"
            )
        if value is None:
            continue
        if not callable(value):
            raise TypeError(
                f"{name} must be a function, such as {_EXAMPLES[name]}, got "
                f"{_shown(value)}"
            )
        function = value
        while isinstance(function, functools.partial):
            function = function.func
        role, hint = _role(function)
        if role not in (None, _ROLES.get(name, name)):
            raise TypeError(
                f"{name} must be a function such as {_EXAMPLES[name]}, got "
                f"{function.__name__}, a {role}{hint}"
            )


def _role(function: Any) -> tuple[str | None, str]:
    """What a function of rankjax is for, and what to write; None of any other."""
    if isinstance(function, Reduction):
        return "reduction", ""
    if hasattr(function, "one_call"):
        short = function.__name__
        return "whole call", f": write rankjax.losses.{short} for rankjax.{short}"
    if info_of(function) is not None:
        return "loss", ""
    if function in SELECTIONS.values():
        return "selection of negatives", (
            ", which a triplet loss takes: functools.partial(losses.triplet_loss, "
            f"selection=mining.{function.__name__})"
        )
    if function in MINERS.values():
        return "miner", f": write mining=rankjax.mining.{function.__name__}"
    if function in (*SIMILARITIES.values(), complex_angle):
        return "similarity", ""
    return None, ""


def _kind(value: Any) -> str:
    return _shown(value) if hasattr(value, "shape") else type(value).__name__


def _shown(value: Any) -> str:
    """A wrong value in a message, on one line."""
    if hasattr(value, "shape"):
        return f"an array of shape {value.shape}"
    return repr(value)


_ROLES = {
    "regularizers": "loss",
    "mining": "miner",
    "selection": "selection of negatives",
}
_EXAMPLES = {
    "selection": "rankjax.mining.hardest_negative",
    "loss": "rankjax.losses.triplet_loss",
    "mining": "rankjax.mining.hardest",
    "reduction": "rankjax.mean",
    "similarity": "rankjax.similarity.cosine",
    "regularizers": "rankjax.regularizers.squared_norm",
    "relevance": "lambda a, r: table[a][:, r]",
}


def as_terms(name: str, result: Any, anchors: int) -> list[Terms]:
    """The Terms that a loss or penalty returned, one or several, each [anchors].

    Raises:
      TypeError: something else.
      ValueError: another shape.
    """
    terms = [result] if isinstance(result, Terms) else result
    if not (
        isinstance(terms, tuple | list)
        and terms
        and all(isinstance(t, Terms) for t in terms)
    ):
        found = _kind(result)
        if isinstance(terms, tuple | list):
            found = f"{found} of {', '.join(map(_kind, terms)) or 'nothing'}"
        raise TypeError(
            f"{name} must return rankjax.Terms, one or a tuple, or rankjax.BatchSums, "
            f"got {found}; Terms.over_references(values, mask) makes them"
        )
    for t in terms:
        for part in ("total", "count", "active"):
            check_shape(f"Terms.{part} of {name}", getattr(t, part), (anchors,))
    return list(terms)


def check_mined(mined: Any, pairs: Pairs) -> None:
    """Raises where mining returned something else than Pairs like those it got.

    Raises:
      TypeError: it is no Pairs, or a mask is not bool.
      ValueError: another shape.
    """
    if not isinstance(mined, Pairs):
        raise TypeError(
            "mining must return Pairs, as pairs.narrow(positive, negative) does, got "
            f"{type(mined).__name__}"
        )
    for name in ("similarity", "positive", "negative"):
        ours, theirs = getattr(pairs, name), getattr(mined, name)
        check_shape(f"{name} of the Pairs that mining returns", theirs, ours.shape)
        if name != "similarity" and theirs.dtype != bool:
            raise TypeError(
                f"{name} of the Pairs that mining returns must be a bool mask, got "
                f"{theirs.dtype}"
            )


def check_masks(batch: Rows, references: Rows) -> None:
    """Raises a ValueError where given masks are not [anchor, reference]."""
    if batch.positive is not None and batch.negative is not None:
        shape = (len(batch.embeddings), len(references.embeddings))
        check_shape("positive", batch.positive, shape)
        check_shape("negative", batch.negative, shape)


def check_same_space(batch: Rows, references: Rows, kind: str = "References") -> None:
    """Raises where embeddings and references cannot be compared."""
    ours, theirs = batch.embeddings, references.embeddings
    if batch.label is not None and references.label is not None:
        check_shape(
            "references.labels",
            references.label,
            (len(theirs), *batch.label.shape[1:]),
        )
    if ours.shape[1] != theirs.shape[1]:
        raise ValueError(
            f"references.embeddings must have the embeddings' dim {ours.shape[1]}, "
            f"got {theirs.shape[1]}"
        )
    if ours.dtype != theirs.dtype:
        raise TypeError(
            f"references.embeddings must have the embeddings' dtype {ours.dtype}, "
            f"got {theirs.dtype}"
        )
    if (batch.guide is None) != (references.guide is None):
        raise ValueError(
            "guide and references.guide must be given together or not at all: "
            f"rankjax.{kind}(..., guide=...)"
        )
    if batch.guide is not None and references.guide is not None:
        wide = (len(theirs), batch.guide.shape[1])
        check_shape("references.guide", references.guide, wide)


def as_weights(weights: Any, n: int) -> jax.Array | None:
    """Checks weights [n]; a negative one is found where they are not on a device yet.

    Raises:
      ValueError: a wrong shape, or a negative weight.
      TypeError: neither integers nor floating point.
    """
    if weights is None:
        return None
    array = _as_array(jnp.asarray, "weights", weights)
    check_shape("weights", array, (n,))
    if not jnp.isrealobj(array) or array.dtype == bool:
        raise TypeError(f"weights must be real numbers, got {array.dtype}")
    if not isinstance(weights, jax.Array) and np.min(weights) < 0:
        raise ValueError(f"weights must not be negative, got {np.min(weights)}")
    return array


def as_dims(dims: Any, weights: Any) -> dict[int, Any] | None:
    """The lengths of prefixes in rising order, each with its weight; None for none.

    Raises:
      ValueError: no lengths, one twice, one below 1, or as many weights as not.
      TypeError: a length is not a whole number.
    """
    if dims is None:
        if weights is not None:
            raise ValueError("dim_weights need dims, got dims=None")
        return None
    if isinstance(dims, Mapping | Set):
        raise TypeError(
            f"dims must be a tuple of lengths, their weights dim_weights, got {dims!r}"
        )
    lengths = tuple(dims) if isinstance(dims, Iterable) else (dims,)
    if not all(isinstance(dim, numbers.Integral) for dim in lengths):
        raise TypeError(f"dims must be whole numbers, got {dims!r}")
    if not lengths or min(lengths) < 1 or len(set(lengths)) < len(lengths):
        raise ValueError(f"dims must be different lengths of at least 1, got {dims!r}")
    if isinstance(weights, Mapping | Set | str):
        raise TypeError(
            "dim_weights must be a tuple of numbers, one for each of dims, got "
            f"{weights!r}"
        )
    weights = [1] * len(lengths) if weights is None else list(weights)
    for weight in weights:
        check_number("a weight of dim_weights", weight)
    if len(weights) != len(lengths):
        raise ValueError(
            f"dim_weights must be one number for each of {len(lengths)} dims, "
            f"got {len(weights)}"
        )
    return {
        int(dim): w
        for dim, w in sorted(zip(lengths, weights, strict=True), key=lambda x: x[0])
    }


def check_dims(dims: tuple[int, ...] | None, dim: int) -> None:
    """Raises a ValueError where a prefix would be longer than the embeddings."""
    if dims is not None and dims[-1] > dim:
        raise ValueError(
            f"dims must be at most the embeddings' dim {dim}, got {dims[-1]}"
        )


def check_shape(name: str, array: Any, shape: tuple[int, ...]) -> None:
    """Raises a ValueError that names the array where its shape is another."""
    if array.shape != shape:
        raise ValueError(f"{name} must have shape {shape}, got {array.shape}")


def _as_array(make: Callable[[Any], Any], name: str, values: Any) -> Any:
    if isinstance(values, np.ndarray) and not values.dtype.isnative:
        # As files may have them; jax takes one order of bytes.
        values = values.astype(values.dtype.newbyteorder("="))
    try:
        return make(values)
    except (TypeError, ValueError) as error:  # neither says what it is about
        raise type(error)(f"{name} must be an array, got {error}") from error


def as_labels(name: str, labels: Any) -> jax.Array:
    """Labels [n] as integers of the platform, or masks [n, classes].

    Raises:
      ValueError: labels would wrap around.
      TypeError: a wrong type.
    """
    integer = jax.dtypes.canonicalize_dtype(np.int64)
    if not isinstance(labels, jax.Array):
        labels = _as_array(np.asarray, name, labels)
        if np.issubdtype(labels.dtype, np.integer) and labels.size:
            low, high = int(labels.min()), int(labels.max())
            limits = np.iinfo(integer)
            if low < limits.min or high > limits.max:
                raise ValueError(
                    f"{name} run from {low} to {high}, which {integer} cannot hold; "
                    "re-index them, as np.unique(labels, return_inverse=True) does"
                )
    if labels.dtype == bool and labels.ndim == 2:
        return jnp.asarray(labels)
    if labels.ndim == 2 and labels.shape[1] == 1:
        raise TypeError(f"{name} must have shape [rows]; write {name}[:, 0]")
    if labels.ndim == 2 and jnp.issubdtype(labels.dtype, jnp.integer):
        raise TypeError(
            f"{name} [rows, classes] must be a bool mask, got {labels.dtype}; of 0 and "
            f"1 take {name}.astype(bool)"
        )
    if not jnp.issubdtype(labels.dtype, jnp.integer):
        raise TypeError(
            f"{name} must be integers, or a bool mask [rows, classes], "
            f"got {labels.dtype} {labels.shape}"
            + "; what another tower makes of the rows goes into "
            "references=rankjax.Positives(embeddings)" * (labels.ndim == 2)
        )
    return jnp.asarray(labels).astype(integer)
