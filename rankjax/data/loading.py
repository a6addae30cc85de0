"""Batches made ahead of the consumer by a few threads."""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Self

import numpy as np

from rankjax.data.augmentation import AUGMENTATIONS, DRAWS
from rankjax.data.randomness import Stream, generator
from rankjax.data.splits import Split
from rankjax.errors import unknown_name

Batch = dict[str, np.ndarray]


class Loader:
    """The augmented batches of steps `start_step` to `stop_step` - 1, in order.

    Iterating gives `(step, {"image": uint8 [n, h, w, c], "label": int32 [n]})`. The
    batch of a step depends on `seed` and the step alone, whatever the number of
    threads and wherever the run started. Use it as a context manager: leaving it,
    also through an exception, ends the threads. An exception met while a batch was
    made is raised to the consumer at that batch's turn.

    Each of several hosts reads and augments a share of the batch, rows side by side in
    the order of the hosts. Joined they are the batch of one host, bit for bit.
    """

    def __init__(
        self,
        split: Split,
        batches: Callable[[int], np.ndarray],
        *,
        augmentation: str,
        seed: int,
        start_step: int,
        stop_step: int,
        host: int = 0,
        hosts: int = 1,
        threads: int = 2,
        prefetch: int = 4,
    ) -> None:
        """Start the threads.

        Args:
          split: where images and labels are read.
          batches: step -> indices into `split`, see `class_balanced_batches`.
          augmentation: a key of `AUGMENTATIONS`.
          seed: the augmentation's randomness.
          start_step: the first step.
          stop_step: the step after the last.
          host: from 0 to `hosts` - 1; the one whose share is made.
          hosts: number of shares; must divide the rows of a batch.
          threads: batches made at the same time.
          prefetch: batches begun before they are asked for, at least 1.

        Raises:
          UsageError: no such augmentation.
          ValueError: `threads` or `prefetch` < 1, or no such host; at a batch's turn,
            rows that `hosts` does not divide.
        """
        if augmentation not in AUGMENTATIONS:
            raise unknown_name("augmentation", augmentation, list(AUGMENTATIONS))
        if threads < 1 or prefetch < 1:
            raise ValueError(
                f"threads and prefetch must be at least 1, got {threads} and {prefetch}"
            )
        if not 0 <= host < hosts:
            raise ValueError(f"host must be from 0 to {hosts - 1}, got {host}")
        self._split, self._batches, self._seed = split, batches, seed
        self._host, self._hosts = host, hosts
        self._augment = AUGMENTATIONS[augmentation]
        self._steps = range(start_step, stop_step)
        self._prefetch = prefetch
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="rankjax-loader")

    def _make(self, step: int) -> Batch:
        batch = self._batches(step)
        if len(batch) % self._hosts:
            raise ValueError(
                f"{len(batch)} rows do not divide over {self._hosts} hosts"
            )
        # Drawn for all rows, so that no row's draws depend on how many hosts there are.
        draws = generator(self._seed, Stream.AUGMENTATION, step).random(
            (len(batch), DRAWS)
        )
        rows = len(batch) // self._hosts
        share = slice(self._host * rows, (self._host + 1) * rows)
        indices = batch[share]
        return {
            "image": self._augment(self._split.images.read(indices), draws[share]),
            "label": self._split.labels[indices],
        }

    def __iter__(self) -> Iterator[tuple[int, Batch]]:
        pending: deque[tuple[int, Future[Batch]]] = deque()
        try:
            for step in self._steps:
                pending.append((step, self._pool.submit(self._make, step)))
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

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def _result(pending: deque[tuple[int, Future[Batch]]]) -> tuple[int, Batch]:
    step, future = pending.popleft()
    return step, future.result()
