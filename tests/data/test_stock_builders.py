"""TFDS's own builders, on tiny archives, where TensorFlow is installed."""

import dataclasses
import hashlib

import pytest
import tensorflow_datasets as tfds
import tiny_archives
from tensorflow_datasets.core.download import checksums
from test_benchmarks import counted, rows_of

from rankjax.data import CATALOGUE, load
from rankjax.data.benchmarks import load_benchmark
from rankjax.data.pool import Choice
from rankjax.errors import RunError

pytest.importorskip("tensorflow")
pytestmark = [
    pytest.mark.slow,  # importing TensorFlow takes ten seconds
    pytest.mark.filterwarnings("ignore"),
]


def cub(folder):
    found = tiny_archives.cub(folder)
    mask, files = tiny_archives.picture(0, 0, "PNG", "L"), {}
    for name, _, image, _, _ in (row for rows in found.values() for row in rows):
        label = int(name[:3])
        files[f"segmentations/{name}/Bird_{label}_{image:04d}_{label}.png"] = mask
    tiny_archives.write_tgz(folder / "segmentations.tgz", files)
    return found


def omniglot(folder):
    """TFDS insists on 50 alphabets with 1,623 characters; here one image of each."""
    found, number = {"train": [], "test": []}, 0
    archives = (
        ("images_background", "train", 30, 964),
        ("images_evaluation", "test", 20, 659),
        ("images_background_small1", None, 1, 4),
        ("images_background_small2", None, 1, 4),
    )
    for name, split, alphabets, characters in archives:
        first, files = (number, {}) if split else (0, {})
        for i in range(characters):
            alphabet = i * alphabets // characters + (30 if split == "test" else 0)
            label = first + i
            path = f"Alphabet{alphabet:02d}/character{i + 1:03d}/{label + 1:04d}_01.png"
            content = tiny_archives.picture(label % 25, 0, "PNG", "L")
            files[f"{name}/{path}"] = content
            if split:
                found[split].append((str(label), label % 25, 0, "", -1))
        number += characters if split else 0
        tiny_archives.write_zip(folder / f"{name}.zip", files)
    return found


@pytest.fixture(params=["cub", "cars", "sop", "omniglot"])
def archives(request, tmp_path, monkeypatch):
    """An entry and what is in its archives, whose checksums TFDS is told."""
    entry = CATALOGUE[request.param]
    found = {**vars(tiny_archives), "cub": cub, "omniglot": omniglot}[entry.name](
        tmp_path
    )
    kind = tfds.builder_cls(entry.tfds)
    infos = {}
    for url, info in kind.url_infos.items():
        content = (tmp_path / info.filename).read_bytes()
        infos[url] = checksums.UrlInfo(
            size=tfds.core.units.Size(len(content)),
            checksum=hashlib.sha256(content).hexdigest(),
            filename=info.filename,
        )
    monkeypatch.setattr(kind, "url_infos", infos)
    return entry, found


def test_splits_by_class_are_those_of_our_own_builder(archives, tmp_path):
    entry, found = archives
    folders = {"data_dir": tmp_path / "data", "manual_dir": tmp_path}
    data = load(f"tfds:{entry.tfds}", image_size=20, **folders)
    assert (tmp_path / "data" / entry.tfds).is_dir()
    for split in ("train", "test"):
        parts = [getattr(data, split)]
        if split == "train" and data.validation:
            parts.append(data.validation)
        seen = [row[1:3] for part in parts for row in rows_of(part, [""] * 50)]
        if entry.name == "omniglot":  # which TFDS reads as RGB
            seen = [(red, 0) for red, _ in seen]
        assert sorted(seen) == sorted(row[1:3] for row in found[split])
    # The catalogue takes what TFDS has prepared, without archives.
    again = load_benchmark(
        dataclasses.replace(entry, counts=counted(found)),
        data_dir=tmp_path / "data",
        manual_dir=tmp_path / "nothing",
        choice=Choice((20, 20)),
    )
    assert again.test.labels.tolist() == data.test.labels.tolist()
    assert again.recall_at == entry.recall_at
    assert not (tmp_path / "data" / "benchmark").exists()
    if entry.super_key:
        assert again.test.super_labels is not None


def test_host_that_cannot_be_found_is_asked_for_once(tmp_path, monkeypatch):
    def unknown(*arguments):
        raise OSError("Name or service not known")

    monkeypatch.setattr("socket.getaddrinfo", unknown)
    monkeypatch.setattr("rankjax.data.preparation.getproxies", dict)
    with pytest.raises(RunError, match=r"data.caltech.edu is not found; place CUB_200"):
        load("cub", data_dir=tmp_path)
