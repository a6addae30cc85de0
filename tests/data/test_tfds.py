import io
import os
import signal
import subprocess
import sys
import time
from importlib.util import find_spec

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from rankjax.data import load
from rankjax.errors import RunError, UsageError


class RankjaxBirds(tfds.core.GeneratorBasedBuilder):
    """Splits made for classification: both have all 44 classes, but for one."""

    VERSION = tfds.core.Version("1.0.0")
    broken = False

    def _info(self):
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict(
                {
                    "photo": tfds.features.Image(shape=(None, None, 3)),
                    "kind": tfds.features.ClassLabel(num_classes=2),
                    "bird": tfds.features.ClassLabel(num_classes=44),
                }
            ),
        )

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples(3), "test": self._generate_examples(2)}

    def _generate_examples(self, images):
        if self.broken:
            raise OSError("the camera is gone")
        for key in range(43 * images):
            bird = key % 43
            file = io.BytesIO()
            Image.new("RGB", (9, 7), (bird, images, 0)).save(file, "PNG")
            file.seek(0)
            yield str(key), {"photo": file, "kind": bird % 2, "bird": bird}


def test_classification_splits_are_joined_and_split_by_the_finest_label(data_dir):
    data = load("tfds:rankjax_birds", data_dir=data_dir, image_size=5)
    assert len(data.train.class_names) == 20
    assert len(data.validation.class_names) == 2
    names = {int(name) for name in data.train.class_names + data.validation.class_names}
    assert names == set(range(22))
    assert data.test.class_names == tuple(str(bird) for bird in range(22, 43))
    for split in (data.train, data.validation, data.test):
        images = split.images.read(np.arange(len(split.images)))
        assert images.shape == (5 * len(split.class_names), 5, 5, 3)
        birds = [int(split.class_names[label]) for label in split.labels]
        np.testing.assert_array_equal(images[:, 2, 2, 0], birds)
        assert set(images[:, 2, 2, 1]) == {2, 3}


def test_seed_chooses_the_classes_held_out(data_dir):
    held_out = {
        load("tfds:rankjax_birds", data_dir=data_dir, seed=seed).validation.class_names
        for seed in (0, 0, 1, 2, 3)
    }
    assert 2 <= len(held_out) <= 4


def test_one_line_is_printed_and_only_the_first_time(tmp_path, capfd):
    for expected in ("preparing digits (once) ...\n", ""):
        load("digits", data_dir=tmp_path)
        assert capfd.readouterr() == ("", expected)


def test_failed_preparation_says_why_and_is_redone(tmp_path, monkeypatch):
    monkeypatch.setattr(RankjaxBirds, "broken", True)
    with pytest.raises(RunError, match="OSError: the camera is gone"):
        load("tfds:rankjax_birds", data_dir=tmp_path)
    monkeypatch.undo()
    assert len(load("tfds:rankjax_birds", data_dir=tmp_path).test.class_names) == 21


@pytest.mark.slow
def test_killed_preparation_is_redone(tmp_path):
    code = (
        "import sys; from pathlib import Path; from rankjax.data import load;"
        "load('glyphs/modes', data_dir=Path(sys.argv[1]))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, tmp_path], stderr=subprocess.DEVNULL
    )
    while not list(tmp_path.rglob("incomplete.*/*")):
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    # The same for a folder that was half copied.
    half = tmp_path / "digits" / "1.0.0"
    half.mkdir(parents=True)
    (half / "features.json").write_text("{}")
    assert len(load("digits", data_dir=tmp_path).train.labels) == 901
    assert len(load("glyphs/modes", data_dir=tmp_path).test.class_names) > 300


def test_two_processes_may_prepare_at_once(tmp_path):
    code = (
        "import sys; from pathlib import Path; from rankjax.data import load;"
        "print(len(load('digits', data_dir=Path(sys.argv[1])).train.labels))"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    both = [subprocess.Popen(command, **pipes) for _ in range(2)]
    outputs = [process.communicate() for process in both]
    assert [out for out, _ in outputs] == ["901\n", "901\n"]
    assert sum("preparing" in err for _, err in outputs) == 1


def test_cut_records_are_reported(tmp_path):
    load("digits", data_dir=tmp_path)
    for cached in tmp_path.rglob("*.npy"):
        cached.unlink()
    (records,) = tmp_path.rglob("*train.array_record*")
    os.truncate(records, records.stat().st_size // 2)
    with pytest.raises(RunError, match="delete the folder to have it made again"):
        load("digits", data_dir=tmp_path)


def test_wrong_number_of_labels_is_reported(tmp_path):
    load("digits", data_dir=tmp_path)
    (cached,) = tmp_path.rglob("train-label.npy")
    np.save(cached, np.load(cached)[:300])
    with pytest.raises(RunError, match="train has 300 examples, not 901"):
        load("digits", data_dir=tmp_path)


def test_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match=r"cannot use .*/file/data"):
        load("digits", data_dir=tmp_path / "file" / "data")


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("glyph/lite", "glyphs/lite"),
        ("digit", "digits"),
        ("folder", "folder:PATH"),
        ("tfds:cars19", "tfds:cars196"),
        ("tfds:cars196/large", "BuilderConfig large not found"),
    ],
)
def test_unknown_name_offers_the_nearest_in_one_line(name, hint, tmp_path):
    with pytest.raises(UsageError, match=f"{name}.*{hint}") as error:
        load(name, data_dir=tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.skipif(find_spec("tensorflow") is not None, reason="TensorFlow is here")
def test_stock_data_set_without_tensorflow_says_what_to_install(tmp_path):
    with pytest.raises(RunError, match=r"pip install 'rankjax\[tf\]'"):
        load("tfds:stanford_online_products", data_dir=tmp_path)


def test_data_set_without_integer_label_is_refused(tmp_path):
    with pytest.raises(UsageError, match="no image with an integer label"):
        load("tfds:imdb_reviews", data_dir=tmp_path)
