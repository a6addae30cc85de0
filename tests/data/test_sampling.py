import numpy as np
import pytest

from rankjax.data import class_balanced_batches


def _labels(sizes):
    labels = np.repeat(np.arange(len(sizes)), sizes)
    return np.random.default_rng(0).permutation(labels)


@pytest.mark.parametrize("number", [8, 9, 13, 15, 16, 17, 40, 101])
def test_batch_holds_p_distinct_classes_grouped_and_decks_cover_all_classes(number):
    labels = _labels([5] * number)
    batch = class_balanced_batches(labels, classes=8, per_class=4, seed=3)
    dealt = []
    for step in range(4 * number):
        indices = batch(step)
        assert indices.dtype == np.int64
        assert len(np.unique(indices)) == 32
        groups = labels[indices].reshape(8, 4)
        assert (groups == groups[:, :1]).all()
        assert len(np.unique(groups[:, 0])) == 8
        dealt.extend(groups[:, 0])
    for start in range(0, len(dealt) - number + 1, number):
        assert sorted(dealt[start : start + number]) == list(range(number))


def test_batches_depend_on_seed_and_step_alone():
    labels = _labels([6] * 21)
    one = class_balanced_batches(labels, classes=8, per_class=4, seed=0)
    forward = [one(step) for step in range(200)]
    for step in (199, 0, 57, 58, 3, 150):
        fresh = class_balanced_batches(labels, classes=8, per_class=4, seed=0)
        np.testing.assert_array_equal(fresh(step), forward[step])
        np.testing.assert_array_equal(one(step), forward[step])
    other = class_balanced_batches(labels, classes=8, per_class=4, seed=1)
    assert any((other(step) != forward[step]).any() for step in range(3))


def test_small_class_gives_all_its_images_then_repeats_evenly():
    labels = _labels([3, 2, 9])
    batch = class_balanced_batches(labels, classes=3, per_class=7, seed=0)
    for step in range(20):
        indices, counts = np.unique(batch(step), return_counts=True)
        for label, expected in ((0, [2, 2, 3]), (1, [3, 4]), (2, [1] * 7)):
            assert sorted(counts[labels[indices] == label]) == expected


def test_single_images_are_left_out_and_labels_may_be_any_integers():
    labels = np.array([7, -3, 7, 100, 100, 5, 7])
    batch = class_balanced_batches(labels, classes=2, per_class=2, seed=0)
    assert {int(label) for step in range(9) for label in labels[batch(step)]} == {
        7,
        100,
    }


def test_every_image_of_a_large_class_comes_up():
    labels = _labels([40, 40])
    batch = class_balanced_batches(labels, classes=2, per_class=4, seed=0)
    assert len(np.unique([batch(step) for step in range(150)])) == 80


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"classes": 2, "per_class": 1}, "per_class must be at least 2, got 1"),
        ({"classes": 0, "per_class": 2}, "classes must be at least 1, got 0"),
        ({"classes": 4, "per_class": 2}, "classes must be at most 3"),
        ({"classes": 2, "per_class": 2, "seed": -1}, "seed must be in 0"),
    ],
)
def test_wrong_argument_is_named(options, message):
    with pytest.raises(ValueError, match=message):
        class_balanced_batches(_labels([2, 2, 2, 1]), **{"seed": 0, **options})(0)
