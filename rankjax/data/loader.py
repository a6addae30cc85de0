"""Batches made ahead of the consumer by a few threads."""

import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager

import numpy as np

from rankjax.data.augmentation import Augmentation
from rankjax.data.images import ImageSource
from rankjax.data.random import Stream, generator
from rankjax.data.splits import Split

Batch = dict[str, np.ndarray]
# A batch, and the parts of its images that threads are filling in.
_Begun = tuple[Batch, list[Future[None]]]

_PART = 16  # images at most that a thread takes at once, so that all threads have some


class Loader(AbstractContextManager["Loader"]):
    """The augmented batches of steps `start_step` to `stop_step` - 1, in order.

    Iterating gives `(step, {"image": uint8 [n, h, w, c], "label": int32 [n]})`. Where
    the split has partners, there are `others` [n, 1 + k, h, w, c], the positive of each
    image and its negatives, and `others_valid` [n, 1 + k] bool; where it has a guide,
    `guide` [n, any] and `others_guide` [n, 1 + k, any]. The batch of a step depends on
    `seed` and the step alone, whatever the number of threads and wherever the run
    started. Use it as a context manager: leaving it, also through an exception, ends
    the threads. An exception met while a batch was made is raised to the consumer at
    that batch's turn.

    Each of several hosts reads and augments a share of the batch, rows side by side in
    the order of the hosts. Joined they are the batch of one host, bit for bit.
    """

    def __init__(
        self,
        split: Split,
        batches: Callable[[int], np.ndarray],
        *,
        augmentation: Augmentation,
        seed: int,
        start_step: int,
        stop_step: int,
        host: int = 0,
        hosts: int = 1,
        threads: int | None = None,
        prefetch: int = 4,
    ) -> None:
        """Start the threads.

        Args:
          split: where images and labels are read.
          batches: step -> indices into `split`, see `rankjax.data.make_batches`.
          augmentation: what becomes of each image.
          seed: the augmentation's randomness.
          start_step: the first step.
          stop_step: the step after the last.
          host: from 0 to `hosts` - 1; the one whose share is made.
          hosts: number of shares; must divide the rows of a batch.
          threads: which read and change the images of a batch together; by default one
            for each core.
          prefetch: batches begun before they are asked for, at least 1.

        Raises:
          ValueError: `threads` or `prefetch` < 1, or no such host; at a batch's turn,
            rows that `hosts` does not divide.
        """
        threads = (os.cpu_count() or 1) if threads is None else threads
        if threads < 1 or prefetch < 1:
            raise ValueError(
                f"threads and prefetch must be at least 1, got {threads} and {prefetch}"
            )
        if not 0 <= host < hosts:
            raise ValueError(f"host must be from 0 to {hosts - 1}, got {host}")
        self._split, self._batches, self._seed = split, batches, seed
        self._host, self._hosts = host, hosts
        self._augment, self._threads = augmentation, threads
        self._steps = range(start_step, stop_step)
        self._prefetch = prefetch
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="rankjax-loader")

    def _begin(self, step: int) -> _Begun:
        batch = self._batches(step)
        if len(batch) % self._hosts:
            raise ValueError(
                f"{len(batch)} rows do not divide over {self._hosts} hosts"
            )
        # Drawn for all rows, so that no row's draws depend on how many hosts there are.
        random = generator(self._seed, Stream.AUGMENTATION, step).random
        rows = len(batch) // self._hosts
        share = slice(self._host * rows, (self._host + 1) * rows)
        indices, width = batch[share], self._augment.draws
        draws = random((len(batch), width))[share]
        images, parts = self._begin_images(self._split.images, indices, draws)
        begun = {"image": images, "label": self._split.labels[indices]}
        if self._split.guide is not None:
            begun["guide"] = self._split.guide[indices]
        partners = self._split.partners
        if partners is not None:
            others, valid = partners.rows[indices], partners.rows[indices] >= 0
            others = np.where(valid, others, 0)
            draws = random((len(batch), others.shape[1], width))[share]
            draws = draws.reshape(others.size, width)
            images, more = self._begin_images(partners.images, others.ravel(), draws)
            begun["others"] = images.reshape(*others.shape, *images.shape[1:])
            begun["others_valid"] = valid
            if partners.guide is not None:
                begun["others_guide"] = partners.guide[others]
            parts += more
        return begun, parts

    def _begin_images(
        self, source: ImageSource, indices: np.ndarray, draws: np.ndarray
    ) -> tuple[np.ndarray, list[Future[None]]]:
        read = source.originals if self._augment.whole else source.read
        rows, size = len(indices), source.shape[:2]
        images = np.empty((rows, *source.shape), source.dtype)

        def fill(part: slice) -> None:
            changed = self._augment(read(indices[part]), draws[part], size)
            for row, image in zip(images[part], changed, strict=True):
                row[:] = image

        each = min(-(-rows // self._threads), _PART)
        parts = [slice(i, i + each) for i in range(0, rows, each)]
        return images, [self._pool.submit(fill, part) for part in parts]

    def __iter__(self) -> Iterator[tuple[int, Batch]]:
        pending: deque[tuple[int, Future[_Begun]]] = deque()
        try:
            for step in self._steps:
                pending.append((step, self._pool.submit(self._begin, step)))
                if len(pending) > self._prefetch:
                    yield _result(pending)
            while pending:
                yield _result(pending)
        finally:
            for _, future in pending:
                future.cancel()

    def close(self) -> None:
        """Drop what was prefetched and wait for the threads to end."""
        self._pool.shutdown(cancel_futures=True)

    def __exit__(self, *exception: object) -> None:
        self.close()


def _result(pending: deque[tuple[int, Future[_Begun]]]) -> tuple[int, Batch]:
    step, future = pending.popleft()
    batch, parts = future.result()
    for part in parts:
        part.result()
    return step, batch
