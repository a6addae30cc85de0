import dataclasses
import threading
import time

import numpy as np
import pytest

from rankjax.data import (
    AUGMENTATIONS,
    Augmentation,
    Loader,
    Split,
    class_balanced_batches,
)
from rankjax.data.random import Stream, generator
from rankjax.data.splits import Partners
from rankjax.errors import RunError


class _Slow:
    """Reads take a random time, so that threads overtake each other."""

    def __init__(self, images, broken=None):
        self.images, self.broken, self.shape = images, broken, images.shape[1:]
        self.dtype = images.dtype

    def __len__(self):
        return len(self.images)

    def read(self, indices):
        time.sleep(np.random.default_rng().uniform(0, 0.005))
        if self.broken in indices:
            raise RunError("image 7 is torn")
        return self.images[indices]

    originals = read


def _split(broken=None):
    images = np.random.default_rng(0).integers(0, 256, (60, 8, 8, 1), np.uint8)
    labels = np.repeat(np.arange(12, dtype=np.int32), 5)
    return Split(_Slow(images, broken), labels, tuple("abcdefghijkl"))


def _loader(split, batches, start=0, stop=20, **options):
    options = {"augmentation": "affine", "seed": 4, "threads": 3} | options
    options["augmentation"] = Augmentation(options["augmentation"])
    return Loader(split, batches, start_step=start, stop_step=stop, **options)


@pytest.mark.parametrize(("threads", "start"), [(1, 0), (3, 0), (3, 13)])
def test_batches_come_in_order_and_equal_direct_computation(threads, start):
    split = _split()
    batches = class_balanced_batches(split.labels, classes=4, per_class=2, seed=0)
    with _loader(split, batches, threads=threads, start=start) as loader:
        seen = list(loader)
    assert [step for step, _ in seen] == list(range(start, 20))
    for step, batch in seen:
        draws = generator(4, Stream.AUGMENTATION, step).random((8, 5))
        images = split.images.images[batches(step)]
        np.testing.assert_array_equal(
            batch["image"], Augmentation("affine")(images, draws, (8, 8))
        )
        np.testing.assert_array_equal(batch["label"], split.labels[batches(step)])
        assert batch["label"].dtype == np.int32


@pytest.mark.parametrize("augmentation", AUGMENTATIONS)
@pytest.mark.parametrize("hosts", [2, 4])
def test_hosts_share_the_batch_of_one_host_by_classes(hosts, augmentation):
    split = _split()
    batches = class_balanced_batches(split.labels, classes=4, per_class=3, seed=0)

    def batches_of(host, hosts):
        options = {"host": host, "hosts": hosts, "augmentation": augmentation}
        with _loader(split, batches, start=5, stop=9, **options) as loader:
            return list(loader)

    shares = [batches_of(host, hosts) for host in range(hosts)]
    for step, whole in batches_of(0, 1):
        parts = [share[step - 5] for share in shares]
        assert [number for number, _ in parts] == [step] * hosts
        for name, expected in whole.items():
            joined = np.concatenate([part[name] for _, part in parts])
            np.testing.assert_array_equal(joined, expected)
        classes = [set(part["label"].tolist()) for _, part in parts]
        assert sum(map(len, classes)) == len(set.union(*classes)) == 4


def test_partners_and_a_guide_come_with_their_images():
    split, rng = _split(), np.random.default_rng(1)
    rows = rng.integers(-1, 60, (60, 3)).astype(np.int32)
    guide = rng.normal(size=(60, 4)).astype(np.float32)
    partners = Partners(split.images, rows, 2 * guide)
    split = dataclasses.replace(split, partners=partners, guide=guide)
    batches = class_balanced_batches(split.labels, classes=4, per_class=2, seed=0)
    with _loader(split, batches, stop=2, augmentation="none") as loader:
        whole = list(loader)
    for step, batch in whole:
        chosen, others = batches(step), rows[batches(step)]
        np.testing.assert_array_equal(batch["image"], split.images.images[chosen])
        np.testing.assert_array_equal(batch["guide"], guide[chosen])
        np.testing.assert_array_equal(batch["others_valid"], others >= 0)
        there = others >= 0
        np.testing.assert_array_equal(
            batch["others"][there], split.images.images[others[there]]
        )
        np.testing.assert_array_equal(
            batch["others_guide"][there], 2 * guide[others[there]]
        )


def test_hosts_share_partners_as_they_share_images():
    split = _split()
    rows = np.random.default_rng(1).integers(-1, 60, (60, 3)).astype(np.int32)
    split = dataclasses.replace(split, partners=Partners(split.images, rows))
    batches = class_balanced_batches(split.labels, classes=4, per_class=2, seed=0)

    def first(**options):
        with _loader(split, batches, stop=1, **options) as loader:
            ((_, batch),) = loader
        return batch

    shares = [first(host=host, hosts=2) for host in range(2)]
    for name, expected in first().items():
        joined = np.concatenate([share[name] for share in shares])
        np.testing.assert_array_equal(joined, expected)


def test_a_host_reads_no_image_of_another():
    split, read = _split(), []
    original = split.images.read
    split.images.read = lambda indices: read.extend(indices) or original(indices)
    batches = class_balanced_batches(split.labels, classes=4, per_class=3, seed=0)
    with _loader(split, batches, host=1, hosts=2, stop=1) as loader:
        list(loader)
    assert sorted(read) == sorted(batches(0)[6:])


def test_worker_error_is_raised_at_its_step_and_threads_end():
    seen = []

    def consume():
        with _loader(_split(broken=7), lambda step: np.array([step])) as loader:
            for step, _ in loader:
                seen.append(step)

    with pytest.raises(RunError, match="image 7 is torn"):
        consume()
    assert seen == list(range(7))
    assert not _loader_threads()


@pytest.mark.parametrize("stop", [KeyboardInterrupt, ZeroDivisionError])
def test_threads_end_when_the_consumer_is_interrupted(stop):
    def consume():
        with _loader(_split(), lambda step: np.array([step])) as loader:
            for _ in loader:
                raise stop

    with pytest.raises(stop):
        consume()
    assert not _loader_threads()


def test_no_more_batches_are_begun_ahead_than_asked_for():
    begun = []

    def batches(step):
        begun.append(step)
        return np.array([step])

    with _loader(_split(), batches, start=3, prefetch=2) as loader:
        for step, _ in loader:
            time.sleep(0.01)
            assert max(begun) <= step + 2
    assert begun == list(range(3, 20))


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match="threads and prefetch must be at least 1"):
        _loader(_split(), None, threads=0)
    with pytest.raises(ValueError, match="host must be from 0 to 1, got 2"):
        _loader(_split(), None, host=2, hosts=2)
    with (
        _loader(_split(), lambda step: np.arange(3), hosts=2) as loader,
        pytest.raises(ValueError, match="3 rows do not divide over 2 hosts"),
    ):
        next(iter(loader))


def _loader_threads():
    return [each for each in threading.enumerate() if "rankjax" in each.name]
