import dataclasses
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
from importlib.util import find_spec

import numpy as np
import pytest
import tensorflow_datasets as tfds
import tiny_archives
from PIL import Image
from tensorflow_datasets.core.download import checksums
from test_archives import counted, rows_of

from rankjax.data import CATALOGUE, load
from rankjax.data.splits import LoadOptions
from rankjax.data.tfds import load_benchmark
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
    data, *others = (
        load("tfds:rankjax_birds", data_dir=data_dir, image_size=5, seed=seed)
        for seed in range(4)
    )
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
    held_out = {each.validation.class_names for each in (data, *others)}
    assert 2 <= len(held_out) <= 4


def test_one_line_is_printed_the_first_time_and_nothing_is_left(
    tmp_path, capfd, monkeypatch
):
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    for expected in ("preparing digits (once) ...\n", ""):
        load("digits", data_dir=tmp_path)
        assert capfd.readouterr() == ("", expected)
    assert not list(temporary.iterdir())


def test_failed_or_half_copied_preparation_is_redone(tmp_path, monkeypatch):
    monkeypatch.setattr(RankjaxBirds, "broken", True)
    with pytest.raises(RunError, match="OSError: the camera is gone"):
        load("tfds:rankjax_birds", data_dir=tmp_path)
    monkeypatch.undo()
    half = tmp_path / "rankjax_birds" / "1.0.0"
    half.mkdir(parents=True, exist_ok=True)
    (half / "features.json").write_text("{}")
    assert len(load("tfds:rankjax_birds", data_dir=tmp_path).test.class_names) == 21


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


def test_damage_of_what_was_prepared_is_reported(tmp_path):
    load("digits", data_dir=tmp_path)
    (cached,) = tmp_path.rglob("train-label.npy")
    np.save(cached, np.load(cached)[:300])
    with pytest.raises(RunError, match="train has 300 examples, not 901"):
        load("digits", data_dir=tmp_path)
    cached.unlink()
    (records,) = tmp_path.rglob("*train.array_record*")
    os.truncate(records, records.stat().st_size // 2)
    with pytest.raises(RunError, match="delete the folder to have it made again"):
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


@pytest.mark.parametrize("form", ["array_record", "tfrecord beside array_record"])
def test_prepared_folder_of_any_name_gives_the_same(form, data_dir, tmp_path):
    expected, folder = load("digits", data_dir=data_dir), tmp_path / "other"
    shutil.copytree(data_dir / "benchmark" / "digits" / "1.0.0", folder)
    if form != "array_record":
        _say_format(folder, fileFormat="tfrecord", alternativeFileFormats=[ARRAYS])
    got = load(f"tfds:{folder}", data_dir=tmp_path / "unused")
    rows = np.random.default_rng(0).permutation(896)
    np.testing.assert_array_equal(got.test.labels, expected.test.labels)
    np.testing.assert_array_equal(
        got.test.images.read(rows), expected.test.images.read(rows)
    )
    assert not (tmp_path / "unused" / "benchmark").exists()


def test_a_folder_of_tfrecord_files_is_refused_with_the_command_that_converts_it(
    data_dir, tmp_path
):
    folder = tmp_path / "other"
    shutil.copytree(data_dir / "benchmark" / "digits" / "1.0.0", folder)
    _say_format(folder, fileFormat="tfrecord")
    command = f"tfds convert_format --dataset_version_dir={folder} --out_file_format"
    with pytest.raises(RunError, match=f"^{folder} has no .*{command}") as error:
        load(f"tfds:{folder}", data_dir=tmp_path)
    assert "\n" not in str(error.value)


ARRAYS = "array_record"


def _say_format(folder, **fields):
    info = folder / "dataset_info.json"
    info.write_text(json.dumps(json.loads(info.read_text()) | fields))


def _cub_with_masks(folder):
    found = tiny_archives.cub(folder)
    mask, files = tiny_archives.picture(0, 0, "PNG", "L"), {}
    for name, _, image, _, _ in (row for rows in found.values() for row in rows):
        label = int(name[:3])
        files[f"segmentations/{name}/Bird_{label}_{image:04d}_{label}.png"] = mask
    tiny_archives.write_tgz(folder / "segmentations.tgz", files)
    return found


def _whole_omniglot(folder):
    """TFDS insists on 50 alphabets with 1,623 characters; here one image of each. The
    small archives have four of the first alphabet, and of the first two."""
    found = {}
    for name, split, labels in (
        ("images_background", "train", range(964)),
        ("images_evaluation", "test", range(964, 1623)),
        ("images_background_small1", "small1", range(4)),
        ("images_background_small2", "small2", (2, 3, 40, 41)),
    ):
        files, found[split] = {}, []
        for label in labels:
            alphabet, character = label * 50 // 1623, f"character{label + 1:04d}"
            path = f"Alphabet{alphabet:02d}/{character}/{label + 1:04d}_01.png"
            content = tiny_archives.picture(label % 25, 0, "PNG", "L")
            files[f"{name}/{path}"] = content
            found[split].append((str(label), label % 25, 0, "", -1))
        tiny_archives.write_zip(folder / f"{name}.zip", files)
    return found


_STOCK = {
    "cub": _cub_with_masks,
    "cars": tiny_archives.cars,
    "sop": tiny_archives.sop,
    "omniglot": _whole_omniglot,
}


@pytest.mark.slow  # importing TensorFlow takes ten seconds
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", _STOCK)
def test_splits_of_tfds_builders_are_those_of_our_own(name, tmp_path, monkeypatch):
    pytest.importorskip("tensorflow")
    entry, found = CATALOGUE[name], _STOCK[name](tmp_path)
    kind = tfds.builder_cls(entry.tfds)
    infos = {}  # the checksums of the tiny archives
    for url, info in kind.url_infos.items():
        content = (tmp_path / info.filename).read_bytes()
        infos[url] = checksums.UrlInfo(
            size=tfds.core.units.Size(len(content)),
            checksum=hashlib.sha256(content).hexdigest(),
            filename=info.filename,
        )
    monkeypatch.setattr(kind, "url_infos", infos)
    folders = {"data_dir": tmp_path / "data", "manual_dir": tmp_path}
    data = load(f"tfds:{entry.tfds}", image_size=20, **folders)
    assert (tmp_path / "data" / entry.tfds).is_dir()
    for split in ("train", "test"):
        parts = [getattr(data, split)]
        if split == "train" and data.validation:
            parts.append(data.validation)
        seen = [row[1:3] for part in parts for row in rows_of(part, [""] * 50)]
        if name == "omniglot":  # which TFDS reads as RGB
            seen = [(red, 0) for red, _ in seen]
        assert sorted(seen) == sorted(row[1:3] for row in found[split])

    # The catalogue takes what TFDS has prepared, without archives.
    def prepared(entry, counts):
        return load_benchmark(
            dataclasses.replace(entry, counts=counts),
            data_dir=tmp_path / "data",
            manual_dir=tmp_path / "nothing",
            options=LoadOptions((20, 20)),
        )

    again = prepared(
        entry, {split: counted(found)[split] for split in ("train", "test")}
    )
    assert again.test.labels.tolist() == data.test.labels.tolist()
    assert again.recall_at == entry.recall_at
    assert not (tmp_path / "data" / "benchmark").exists()
    if entry.super_key:
        assert again.test.super_labels is not None
    if name == "omniglot":
        small = prepared(CATALOGUE["omniglot_small"], {"train": (4, 4), "test": (2, 2)})
        assert small.train.class_names == tuple(f"Alphabet00_{i}" for i in range(4))
        assert small.test.class_names == ("Alphabet01_40", "Alphabet01_41")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_host_that_cannot_be_found_is_asked_for_once(tmp_path, monkeypatch):
    pytest.importorskip("tensorflow")

    def unknown(*arguments):
        raise OSError("Name or service not known")

    monkeypatch.setattr("socket.getaddrinfo", unknown)
    monkeypatch.setattr("rankjax.data.tfds.getproxies", dict)
    with pytest.raises(RunError, match=r"data.caltech.edu is not found; place CUB_200"):
        load("cub", data_dir=tmp_path)
