"""A random part of many classes, for one step of a softmax over class rows.

references = rankjax.References(rows, names, sharded=True)
some = sampled_classes(references, labels, share=0.1, key=key, axis_name=AXIS)
value = objective(losses.arc_face_loss, axis_name=AXIS)(x, labels, references=some)
"""

import dataclasses
import functools
import math
from typing import Annotated, Any

import jax
import jax.numpy as jnp
from jax import lax

from rankjax import inputs
from rankjax.blocks import on_any_mesh
from rankjax.inputs import References
from rankjax.pairs import Rows
from rankjax.registry import Range, check_settings

Part = Annotated[float, Range(above=0, most=1)]


def sampled_classes(
    references: References,
    labels: Any,
    *,
    share: Part = 0.1,
    key: jax.Array,
    axis_name: str | tuple[str, ...] | None = None,
) -> References:
    """Keeps the class rows of a batch, and draws others up to a share of all.

    A loss then takes time, and memory for similarities, in proportion to the share. Its
    softmax is over the rows that are kept, as in the paper, and is no estimate of the
    whole: it is smaller, by about log(1 / share) where negatives decide. Rows that are
    not kept have gradient 0; optimizers with momentum move them all the same.

    Args:
      references: class rows with labels [m]; over devices all of them and
        `replicated`, or those of this device and `sharded`. Rows that are not valid
        come last.
      labels: [n] integers, of the batch; over devices those of this device.
      share: of the rows, above 0 and at most 1; the paper's. Never fewer rows are kept
        than the batch has, over all devices, so that all its classes are among them.
      key: from `jax.random.key`, the same on every device and a new one in each step.
      axis_name: the mapped axis over which the batch is spread, and classes if they
        are sharded, or None.

    Returns:
      The references that are kept, as many for every batch of this size. Rows of
      classes of the batch are always kept; of the others each is as likely as any.

    Raises:
      ValueError: share is out of range, or a shape does not fit.
      TypeError: labels are no integers, or references have several per row.

    Source: An, Deng, Guo, Feng, Zhu, Yang, Liu, "Killing Two Birds with One Stone:
    Efficient and Robust Training of Face Recognition CNNs by Partial FC", CVPR 2022.

        >>> import jax, numpy, rankjax
        >>> rows, names = numpy.eye(8, dtype=numpy.float32), numpy.arange(8)
        >>> some = rankjax.sampled_classes(
        ...     rankjax.References(rows, names), [5, 2], share=0.5,
        ...     key=jax.random.key(0))
        >>> some.embeddings.shape, {2, 5} <= set(some.labels.tolist())
        ((4, 8), True)
    """
    check_settings(sampled_classes, {"share": share})
    inputs.check_key(key)
    rows = inputs.as_rows(
        "references.", references.embeddings, references.labels, references.valid
    )
    wanted = inputs.as_labels("labels", labels)
    if rows.label is None or rows.label.ndim != 1 or wanted.ndim != 1:
        raise TypeError("labels and references.labels must be integers, one per row")
    if references.copy_of is not None or references.guide is not None:
        raise ValueError("references must be class rows, without copy_of and guide")
    if axis_name is not None:
        wanted = lax.all_gather(wanted, axis_name, tiled=True, to="invarying")
    if axis_name is not None and not references.replicated:
        key = jax.random.fold_in(key, lax.axis_index(axis_name))
    embeddings, label, valid = on_any_mesh(
        functools.partial(_sampled, share), wanted, rows, key
    )
    return dataclasses.replace(
        references, embeddings=embeddings, labels=label, valid=valid
    )


def _sampled(
    share: float, wanted: jax.Array, rows: Rows, key: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Rows of wanted classes and others at random: embeddings, labels and validity."""
    labels = jnp.asarray(rows.label)
    wanted = jnp.sort(wanted)
    place = jnp.minimum(jnp.searchsorted(wanted, labels), len(wanted) - 1)
    m = len(labels)
    draws = jax.random.uniform(key, (m,), jnp.float32)
    draws += (wanted[place] == labels).astype(jnp.float32)
    count = min(m, max(math.ceil(share * m), len(wanted)))
    chosen = jnp.sort(lax.top_k(jnp.where(rows.valid, draws, -1), count)[1])
    return rows.embeddings[chosen], labels[chosen], rows.valid[chosen]
