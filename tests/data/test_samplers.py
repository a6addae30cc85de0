import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rankjax.data import BATCHES, Split, class_balanced_batches
from rankjax.data.samplers import (
    camera_balanced_batches,
    hierarchical_batches,
    make_batches,
    n_pair_batches,
    proxy_balanced_batches,
    random_batches,
)


def _labels(sizes):
    labels = np.repeat(np.arange(len(sizes)), sizes)
    return np.random.default_rng(0).permutation(labels)


def _split(labels):
    """Super-classes are of seven classes each, and cameras are three."""
    cameras = np.random.default_rng(1).integers(0, 3, len(labels)).astype(np.int32)
    return Split(None, labels, (), cameras, (labels // 7).astype(np.int32))


def _make(name, labels, classes, per_class, seed):
    per_class = 2 if name == "n_pairs" else per_class
    options = {"classes": classes, "per_class": per_class, "seed": seed}
    return make_batches(name, _split(labels), **options), per_class


# Enough classes and super-classes of several images for every kind.
_SIZES = st.lists(st.integers(2, 9), min_size=14, max_size=40)


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from([name for name in BATCHES if name != "random"]),
    _SIZES,
    st.sampled_from([2, 4, 6]),
    st.integers(2, 12),
    st.integers(0, 2**63),
    st.integers(0, 10**6),
)
def test_any_batch_holds_p_distinct_classes_of_k_images_so_that_hosts_are_disjoint(
    name, sizes, classes, per_class, seed, step
):
    labels = _labels(sizes)
    batches, per_class = _make(name, labels, classes, per_class, seed)
    indices = batches(step)
    assert indices.dtype == np.int64
    groups = labels[indices].reshape(classes, per_class)
    assert (groups == groups[:, :1]).all()
    assert len(np.unique(groups[:, 0])) == classes
    for number, images in zip(groups[:, 0], indices.reshape(groups.shape), strict=True):
        # All images of a short class, as often as each other but for one.
        shown, counts = np.unique(images, return_counts=True)
        assert len(shown) == min(per_class, sizes[number])
        assert counts.max() - counts.min() <= 1
    for hosts in (2, classes):
        shares = [set(each) for each in groups.reshape(hosts, -1).tolist()]
        assert sum(map(len, shares)) == len(set.union(*shares))


@settings(max_examples=30, deadline=None)
@given(
    st.sampled_from(list(BATCHES)),
    _SIZES,
    st.integers(0, 2**63),
    st.lists(st.integers(0, 300), min_size=1, max_size=6),
)
def test_batches_depend_on_seed_and_step_alone_in_whatever_order(
    name, sizes, seed, steps
):
    labels = _labels(sizes)
    undisturbed, _ = _make(name, labels, 4, 3, seed)
    expected = {step: undisturbed(step) for step in range(max(steps) + 1)}
    jumping, _ = _make(name, labels, 4, 3, seed)
    for step in steps:
        resumed, _ = _make(name, labels, 4, 3, seed)
        np.testing.assert_array_equal(resumed(step), expected[step])
        np.testing.assert_array_equal(jumping(step), expected[step])
    other, _ = _make(name, labels, 4, 3, seed ^ 1)
    assert any((other(step) != undisturbed(step)).any() for step in range(5))


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(list(BATCHES)), _SIZES, st.integers(0, 2**63))
def test_an_epoch_shows_the_stated_share_of_classes_and_images(name, sizes, seed):
    labels = _labels([*sizes, 1, 1])
    batches, _ = _make(name, labels, 4, 3, seed)
    whole = [batches(step) for step in range(int(np.ceil(batches.epoch * 12)))]
    rows = round(batches.epoch * len(whole[0]))
    # Twelve epochs, each of which may begin and end inside a batch.
    images = np.concatenate(whole)[: 12 * rows].reshape(12, rows)
    classes = [len(np.unique(labels[epoch])) for epoch in images]
    shown = [len(np.unique(epoch)) for epoch in images]
    np.testing.assert_allclose(classes, batches.classes * len(np.unique(labels)))
    assert np.mean(shown) == pytest.approx(batches.images * len(labels), rel=0.1)


@pytest.mark.parametrize("number", [8, 9, 13, 15, 16, 17, 40, 101])
def test_passes_of_classes_cover_all_classes(number):
    labels = _labels([5] * number)
    batch = class_balanced_batches(labels, classes=8, per_class=4, seed=3)
    shown = []
    for step in range(4 * number):
        groups = labels[batch(step)].reshape(8, 4)
        assert len(np.unique(groups[:, 0])) == 8
        shown.extend(groups[:, 0])
    for start in range(0, len(shown) - number + 1, number):
        assert sorted(shown[start : start + number]) == list(range(number))


def test_with_replacement_images_repeat_as_often_as_chance_has_it():
    labels = _labels([5] * 4)
    batch = class_balanced_batches(
        labels, classes=4, per_class=3, seed=0, replacement=True
    )
    drawn = np.concatenate([batch(step).reshape(4, 3) for step in range(2000)])
    distinct = np.array([len(np.unique(row)) for row in drawn])
    assert (labels[drawn] == labels[drawn][:, :1]).all()
    assert distinct.mean() == pytest.approx(5 * (1 - 0.8**3), rel=0.01)
    assert batch.images == pytest.approx(1 - 0.8**3)
    np.testing.assert_allclose(
        np.bincount(drawn.ravel()) / drawn.size, 1 / 20, rtol=0.1
    )


def test_single_images_are_left_out_and_labels_may_be_any_integers():
    labels = np.array([7, -3, 7, 100, 100, 5, 7])
    batch = class_balanced_batches(labels, classes=2, per_class=2, seed=0)
    found = {int(label) for step in range(9) for label in labels[batch(step)]}
    assert found == {7, 100}
    assert batch.classes == 0.5


def test_every_image_of_a_large_class_comes_up():
    labels = _labels([40, 40])
    batch = class_balanced_batches(labels, classes=2, per_class=4, seed=0)
    assert len(np.unique([batch(step) for step in range(150)])) == 80


def test_random_batches_show_every_image_once_an_epoch_and_none_twice_in_a_batch():
    labels = _labels([3] * 7)
    batch = random_batches(labels, classes=4, per_class=2, seed=0)
    stream = np.concatenate([batch(step) for step in range(21)])
    for epoch in stream.reshape(8, 21):
        np.testing.assert_array_equal(np.sort(epoch), np.arange(21))
    for step in range(21):
        assert len(np.unique(batch(step))) == 8


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 5), min_size=2, max_size=30), st.integers(2, 8))
def test_images_of_a_class_are_from_as_many_cameras_as_can_be(cameras, per_class):
    cameras = np.array(cameras)
    labels = np.zeros(len(cameras), int)
    batch = camera_balanced_batches(
        labels, cameras, classes=1, per_class=per_class, seed=0
    )
    have = np.bincount(cameras, minlength=6)
    for step in range(5):
        images = batch(step)
        assert len(np.unique(cameras[images])) == min(per_class, (have > 0).sum())
        assert len(np.unique(images)) == min(per_class, len(cameras))
        # No camera gives two more than another that has images left.
        given = np.bincount(cameras[np.unique(images)], minlength=6)
        assert given.max() <= given[given < have].min(initial=10**6) + 1


def test_super_classes_are_few_in_a_batch_and_come_equally_often():
    sizes = np.random.default_rng(0).integers(2, 6, 40)
    labels = _labels(sizes)
    parents = np.repeat([0, 1, 2, 3, 4], [20, 8, 6, 4, 2])
    batch = hierarchical_batches(
        labels, parents[labels], classes=6, per_class=2, seed=0, super_classes=2
    )
    dealt = np.array([labels[batch(step)].reshape(2, 3, 2) for step in range(200)])
    found = parents[dealt]
    assert (found == found[:, :, :1, :1]).all()
    assert (found[:, 0, 0, 0] != found[:, 1, 0, 0]).all()
    # The last super-class has too few classes.
    counts = np.bincount(found[:, :, 0, 0].ravel(), minlength=5)
    np.testing.assert_array_equal(counts, [100, 100, 100, 100, 0])
    # Within a super-class its own passes: 100 turns of 3 among 20 classes.
    within = np.bincount(dealt[..., 0].ravel(), minlength=40)
    np.testing.assert_array_equal(within[:20], 15)
    assert batch.epoch == 2
    assert batch.classes == 12 / 40


def test_wrong_arguments_are_named():
    labels = _labels([2] * 12)
    common = {"classes": 4, "per_class": 2, "seed": 0}

    def balanced(sizes=(2, 2, 2, 1), **options):
        options = {"classes": 2, "per_class": 2, "seed": 0} | options
        return class_balanced_batches(_labels(sizes), **options)(0)

    cases = [
        (lambda: balanced(per_class=1), "per_class must be at least 2, got 1"),
        (lambda: balanced(classes=0), "classes must be at least 1, got 0"),
        (lambda: balanced(classes=4), "classes must be at most 3"),
        (lambda: balanced(seed=-1), "seed must be in 0"),
        (lambda: n_pair_batches(labels, classes=4, per_class=3, seed=0), "must be 2"),
        (
            lambda: proxy_balanced_batches(labels, classes=4, per_class=0, seed=0),
            "per_class must be at least 1, got 0",
        ),
        (
            lambda: random_batches(labels, classes=13, per_class=2, seed=0),
            "from 1 to the 24 images, got 13 x 2",
        ),
        (
            lambda: hierarchical_batches(labels, labels, **common, super_classes=3),
            "super_classes must divide the 4 classes, got 3",
        ),
        (
            lambda: hierarchical_batches(labels, labels, **common),
            "super_classes must be at most 0, the number of those with 2 or more",
        ),
        (
            lambda: hierarchical_batches(labels, np.arange(24), **common),
            "super_labels must be the same for all images of a class",
        ),
        (
            lambda: camera_balanced_batches(labels, labels[:3], **common),
            r"cameras has shape \(3,\), must be \(24,\)",
        ),
        (
            lambda: make_batches("hierarchical", Split(None, labels, ()), **common),
            "batches hierarchical need super_labels, which the data set lacks",
        ),
    ]
    for call, message in cases:
        with pytest.raises(ValueError, match=message):
            call()
