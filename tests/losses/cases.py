"""Every exported loss and regulariser, and settings of them that take another path.

A family's test module, `test_NAME.py`, has its cases beside its slow loops and its
papers' properties, in a dict `CASES`. A key that is the name of an exported loss or
regulariser is that one's case; the others are variants, which name their loss.
"""

import dataclasses
import functools
import importlib
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import rankjax
from rankjax.registry import default_similarity

CLASSES, DIM = 8, 5
# Uneven classes, a row that is alone in its class, rows out of order.
LABELS = np.array([2, 0, 1, 0, 3, 1, 1, 2, 0, 4, 0, 1, 3, 2, 0, 3])
GUIDE = np.random.default_rng(7).normal(size=(CLASSES, 3)).astype(np.float32)
GRADES = np.random.default_rng(8).uniform(size=(CLASSES, CLASSES)).astype(np.float32)
EMBEDDINGS = np.random.default_rng(0).normal(size=(16, DIM)).astype(np.float32)


@dataclasses.dataclass(frozen=True, eq=False)
class Case:
    """What the suite needs to know of a loss besides the loss.

    Attributes:
      slow: the value by loops over float64 arrays: of (x, y), or of (x, y, z, labels of
        z) where there are proxies z; takes `params` by name.
      loss: for variants, with settings bound.
      similarity: if not the listed one.
      mining: if any.
      reduction: that `slow` uses.
      params: values of traced hyper-parameters, other than the defaults.
      proxies: rows of references per class; 0 compares the batch with itself.
      guided: whether another model's embeddings are given, here one row per class.
      graded: whether relevance is given, here by the two classes of a pair.
      many_labels: labels are masks [row, classes] of several labels per row.
      key: whether the loss draws at random. `slow` is then not compared.
      table: whether labels number the rows of a table, and so have no other names.
      steep: how fast exponents rise with a similarity, beyond 50: rounding that the
        order of a matrix product decides grows as much.
    """

    slow: Callable[..., float]
    loss: Callable[..., Any] | None = None
    similarity: Callable[..., Any] | None = None
    mining: Callable[..., Any] | None = None
    reduction: Callable[..., Any] = rankjax.mean
    params: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    proxies: int = 0
    guided: bool = False
    graded: bool = False
    many_labels: bool = False
    key: bool = False
    table: bool = False
    steep: float = 50.0

    @property
    def tolerance(self):
        """Between two ways to compute the same in float32."""
        return 2e-5 * self.steep / 50

    @property
    def measure(self):
        return self.similarity or default_similarity(self.loss)

    def objective(self, **settings):
        """The objective of embeddings and labels; proxies and key are given.

        By default the plain one, which the others are held to.
        """
        settings.setdefault("block", None)
        compute = rankjax.objective(
            self.loss,
            similarity=self.similarity,
            mining=self.mining,
            reduction=self.reduction,
            **settings,
        )
        return functools.partial(self._call, compute)

    def _call(self, compute, x, y=None, *, references=None, names=None, **given):
        if self.proxies:
            z, labels = self.references(x.shape[1])
            if names is not None:
                labels = names[labels]
            references = rankjax.References(
                z.astype(x.dtype) if references is None else references,
                None if y is None else labels,
                replicated=True,
            )
        if self.key:
            given["key"] = jax.random.key(0)
        if self.guided:
            given["guide"] = self.guide(y, names)
            if references is not None:
                references = dataclasses.replace(
                    references, guide=self.guide(references.labels, names)
                )
        if self.graded:
            compute = dataclasses.replace(
                compute, relevance=functools.partial(_grades, names)
            )
        return compute(x, y, references=references, **given)

    def labels(self, y, names=None):
        """Labels as the loss wants them, of classes 0, 1, ...; by other names if given.

        Where a row has several, each has a second one, the same for no two classes.
        """
        y = np.asarray(y)
        if not self.many_labels:
            return y if names is None else names[y]
        mask = np.zeros((len(y), 2 * CLASSES), bool)
        mask[np.arange(len(y)), y] = True
        mask[np.arange(len(y)), (3 * y + np.arange(len(y)) % 2 + 1) % CLASSES] = True
        return mask if names is None else mask[:, np.argsort(np.tile(names, 2))]

    def guide(self, y, names=None):
        return jnp.asarray(GUIDE)[_classes(y, names)]

    def references(self, dim=DIM):
        rows = np.random.default_rng(9).normal(size=(CLASSES * self.proxies, dim))
        return rows.astype(np.float32), np.repeat(np.arange(CLASSES), self.proxies)

    def expected(self, x, y, **params):
        x = np.asarray(x, np.float64)
        if self.proxies:
            z, labels = self.references()
            return self.slow(x, y, z.astype(np.float64), labels, **params)
        return self.slow(x, y, **params)


def _classes(y, names):
    """Classes 0, 1, ... of labels by other names."""
    known = np.arange(CLASSES) if names is None else names
    return jnp.argmax(y[:, None] == known[None, :], 1)


def _grades(names, anchors, references):
    grades = jnp.asarray(GRADES)
    return grades[_classes(anchors, names)][:, _classes(references, names)]


@functools.cache
def _value_and_grad(case, block=None):
    """One compilation per loss for all the properties that only call it."""
    compute = case.objective(block=block)
    return jax.jit(jax.value_and_grad(lambda x, y, **given: compute(x, y, **given)))


def evaluate(case, x, y, *, valid=None, params=None, names=None, block=None):
    """Value and gradient of 16 rows; what is not given has no effect."""
    return _value_and_grad(case, block)(
        np.asarray(x, np.float32),
        case.labels(y) if names is None else case.labels(y, names),
        valid=np.ones(len(x), bool) if valid is None else valid,
        params=dict(case.params if params is None else params),
        names=np.arange(CLASSES) if names is None else names,
    )


def collect():
    """Cases of what is exported, and variants."""
    listed = {**rankjax.losses.LOSSES, **rankjax.regularizers.REGULARIZERS}
    found = {}
    for path in sorted(pathlib.Path(__file__).parent.glob("test_*.py")):
        if "CASES = {" in path.read_text():
            cases = importlib.import_module(path.stem).CASES
            assert not found.keys() & cases.keys(), found.keys() & cases.keys()
            found.update(cases)
    missing = listed.keys() - found.keys()
    assert not missing, f"no case for {sorted(missing)}"
    exported = {k: dataclasses.replace(found[k], loss=v) for k, v in listed.items()}
    variants = {k: v for k, v in found.items() if k not in listed}
    return exported, variants
