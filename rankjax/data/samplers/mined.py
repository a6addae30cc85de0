"""Batches of classes that the network confuses, which its own embeddings tell."""

from collections.abc import Callable

import numpy as np

from rankjax.data.random import Stream, generator
from rankjax.data.samplers.balanced import (
    Batches,
    Members,
    class_balanced_batches,
    shuffled_passes,
)

# Unit vectors on this grid have inner products that float32 holds exactly, in whatever
# order they are added, so that all machines choose the same classes.
_GRID = 2**11


class MinedBatches(Batches):
    """Batches that depend on the seed, the step and the embeddings given last.

    After every `refresh_every` steps embed the images `examples(done)`, `done` being
    the steps done, and give `refresh` the result before the next batch is made (see the
    `Loader`'s argument `refresh_every`). Until the first time the batches are those of
    `class_balanced_batches`. A run that goes on needs the embeddings that were in
    force: keep them with the rest of its state.

    `epoch` counts the classes that come in shuffled passes, and the shares are the
    least that it shows, since it also shows what these are confused with. Beside 10
    bytes per image these take 2 per class and number of what they keep of embeddings.
    """

    def __init__(
        self,
        labels: np.ndarray,
        choose: Callable[[np.ndarray, int], list[int]],
        *,
        classes: int,
        per_class: int,
        seed: int,
        in_passes: int,
        candidates: int,
        refresh_every: int,
        examples: int,
        centres: bool,
    ) -> None:
        """Batches of classes that are confused.

        Args:
          labels, classes, per_class, seed: as in `class_balanced_batches`.
          choose: vectors of candidate classes, whole numbers as float32, and how many
            of the first must be in -> the numbers of those to take.
          in_passes: how many classes of a batch come in shuffled passes.
          candidates: number of random classes to choose from beside these.
          refresh_every: steps between new embeddings.
          examples: images of a class to embed.
          centres: keep the mean direction of a class [dim], or all its directions
            [examples, dim].

        Raises:
          ValueError: an argument out of its range, by its name.
        """
        plain = class_balanced_batches(
            labels, classes=classes, per_class=per_class, seed=seed
        )
        if candidates < classes:
            raise ValueError(
                f"candidates must be at least the {classes} classes, got {candidates}"
            )
        if refresh_every < 1 or examples < 2:
            raise ValueError(
                "refresh_every must be at least 1 and examples at least 2, got "
                f"{refresh_every} and {examples}"
            )
        self._plain, self._members, self._choose = plain, Members(labels), choose
        self._passes = shuffled_passes(len(self._members), in_passes, seed)
        self._per_class, self._seed = per_class, seed
        self._candidates, self._centres = candidates, centres
        self._examples, self._vectors = examples, np.empty(0, np.int16)
        self.refresh_every = refresh_every
        super().__init__(
            self._make, len(self._members) / in_passes, plain.classes, plain.images
        )

    def examples(self, done: int) -> np.ndarray:
        """The images to embed after so many steps, int64 [n]: some of each class."""
        rng = generator(self._seed, Stream.IMAGES, done, 1)
        return self._members.draw(rng, range(len(self._members)), self._examples)

    def refresh(self, embeddings: np.ndarray) -> None:
        """Chooses classes by these from now on.

        Args:
          embeddings: [n, dim], those of `examples`; their directions alone count.

        Raises:
          ValueError: not as many as there are examples.
        """
        expected = len(self._members) * self._examples
        if len(embeddings) != expected:
            raise ValueError(f"embeddings must be {expected}, got {len(embeddings)}")
        rows = np.reshape(embeddings, (len(self._members), self._examples, -1))
        kept = []
        for start in range(0, len(rows), 4096):
            vectors = _unit(rows[start : start + 4096].astype(np.float64))
            if self._centres:
                vectors = _unit(vectors.mean(1))
            kept.append(np.round(_GRID * vectors).astype(np.int16))
        self._vectors = np.concatenate(kept)

    def _make(self, step: int) -> np.ndarray:
        if not len(self._vectors):
            return self._plain(step)
        first, total = self._passes(step), len(self._members)
        rng = generator(self._seed, Stream.IMAGES, step, 2)
        drawn = rng.choice(total, min(self._candidates, total), replace=False)
        drawn = np.concatenate([first, drawn[~np.isin(drawn, first)]])
        vectors = self._vectors[drawn].astype(np.float32)
        numbers = drawn[self._choose(vectors, len(first))]
        rng = generator(self._seed, Stream.IMAGES, step)
        return self._members.draw(rng, numbers, self._per_class)


def hard_class_batches(
    labels: np.ndarray,
    *,
    classes: int,
    per_class: int,
    seed: int,
    neighbours: int = 3,
    candidates: int = 2000,
    refresh_every: int = 500,
    examples: int = 2,
) -> MinedBatches:
    """Classes in shuffled passes, each followed by those with the nearest centres.

    A centre is the mean direction of a few images, and near is by cosine, among a
    random set of classes that is another for each batch; of several the first in its
    order. Every usable class comes first once in an epoch (usable classes
    x (neighbours + 1) / P steps).

    Args:
      labels, classes, per_class, seed: as in `class_balanced_batches`.
      neighbours: classes taken for each class that comes in passes; this and one must
        divide P.
      candidates: size of the random set, at least P; of fewer classes all.
      refresh_every: steps between new centres.
      examples: images of a class that make its centre, at least 2.

    Raises:
      ValueError: an argument out of its range, by its name.
    """
    if neighbours < 1 or classes % (neighbours + 1):
        raise ValueError(
            f"neighbours + 1 must divide the {classes} classes, got {neighbours}"
        )

    def choose(vectors: np.ndarray, first: int) -> list[int]:
        # Of classes equally near the first: a key of its own for each.
        # One by one, as BLAS would wake all cores for their product.
        near = np.stack([vectors @ vector for vector in vectors[:first]])
        keys = near.astype(np.int64) * len(vectors) - np.arange(len(vectors))
        taken = np.iinfo(np.int64).min
        keys[:, :first] = taken
        chosen = []
        for number, row in enumerate(keys):
            top = np.argpartition(row, -neighbours)[-neighbours:]
            top = top[np.argsort(row[top])[::-1]]
            keys[:, top] = taken
            chosen += [number, *top.tolist()]
        return chosen

    return MinedBatches(
        labels,
        choose,
        classes=classes,
        per_class=per_class,
        seed=seed,
        in_passes=classes // (neighbours + 1),
        candidates=candidates,
        refresh_every=refresh_every,
        examples=examples,
        centres=True,
    )


def greedy_class_batches(
    labels: np.ndarray,
    *,
    classes: int,
    per_class: int,
    seed: int,
    candidates: int = 2000,
    refresh_every: int = 500,
) -> MinedBatches:
    """The N-pair paper's hard negative class mining (Sohn, NIPS 2016, section 3.2.1).

    Of a random set of classes with two embeddings each, f and f+, the first is taken
    (in shuffled passes here: every class once in an epoch of as many steps as classes),
    and then again and again the class j that violates the triplet constraint of a class
    i taken before the most, max_i f_i . f_j+ - f_i . f_i+, with unit vectors. Of
    several the first in the random order of the set.

    Args:
      labels, classes, per_class, seed: as in `class_balanced_batches`; the paper takes
        2 images of each class.
      candidates: size of the set, at least `classes`; of fewer classes all.
      refresh_every: steps between new embeddings; the paper makes them anew for every
        batch.

    Raises:
      ValueError: an argument out of its range, by its name.
    """

    def choose(vectors: np.ndarray, first: int) -> list[int]:
        anchors, positives = vectors.swapaxes(0, 1)
        chosen = [0]
        worst = np.full(len(vectors), -np.inf, np.float32)
        while len(chosen) < classes:
            newest = chosen[-1]
            to_anchor = positives @ anchors[newest]
            worst = np.maximum(worst, to_anchor - to_anchor[newest])
            worst[chosen] = -np.inf
            chosen.append(int(worst.argmax()))
        return chosen

    return MinedBatches(
        labels,
        choose,
        classes=classes,
        per_class=per_class,
        seed=seed,
        in_passes=1,
        candidates=candidates,
        refresh_every=refresh_every,
        examples=2,
        centres=False,
    )


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)
