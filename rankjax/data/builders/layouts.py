"""What the files in the field's archives mean: class, split, camera, super-class.

Every function goes once through the archives of a data set, in their own order. The
names of classes sort as their numbers do.
"""

import gzip
import io
import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from PIL import Image

from rankjax.data.builders.archives import Archives, Read
from rankjax.data.folder import person_of


class Example(NamedTuple):
    """An image and what is known of it.

    Attributes:
      split: `train`, `test`, or `gallery`, in which the images of `test` are searched.
      label: the name of its class.
      file: its path in the archive.
      read: gives the encoded image.
      group: the name of its super-class.
      camera: its number; -1 where there are none.
    """

    split: str
    label: str
    file: str
    read: Read
    group: str = ""
    camera: int = -1


Layout = Callable[[Archives], Iterator[Example]]


def cub(archives: Archives) -> Iterator[Example]:
    """CUB_200_2011/images/017.Cardinal/Cardinal_0001_17057.jpg; 1-100 to train."""
    for file, read in archives.images("CUB_200_2011.tgz"):
        label = file.split("/")[-2]
        if re.match(r"\d{3}\.", label):
            yield Example(_half(int(label[:3]), 100), label, file, read)


def cars(archives: Archives) -> Iterator[Example]:
    """cars_train/00001.jpg and cars_test/00001.jpg, of 196 classes; 1-98 to train."""
    annotations = {
        "cars_train": archives.read("car_devkit.tgz", "cars_train_annos.mat"),
        "cars_test": archives.read("cars_test_annos_withlabels.mat"),
    }
    for folder, content in annotations.items():
        rows = _mat(content)["annotations"].ravel()
        labels = {str(row["fname"].item()): int(row["class"].item()) for row in rows}
        for file, read in archives.images(f"{folder}.tgz"):
            label = labels[file.rpartition("/")[2]]
            yield Example(_half(label, 98), f"{label:03d}", file, read)


def sop(archives: Archives) -> Iterator[Example]:
    """Stanford_Online_Products/bicycle_final/111085122871_0.JPG; the lists split."""
    name, places = "Stanford_Online_Products.zip", {}
    for split in ("train", "test"):
        for _, label, _, path in archives.lines(name, f"Ebay_{split}.txt")[1:]:
            places[path] = split, label
    for file, read in archives.images(name):
        folder, image = file.split("/")[-2:]
        split, label = places[f"{folder}/{image}"]
        yield Example(
            split, f"{int(label):05d}", file, read, folder.removesuffix("_final")
        )


def in_shop(archives: Archives) -> Iterator[Example]:
    """img/WOMEN/Dresses/id_00000002/02_1_front.jpg; the list has the three splits."""
    splits = {"train": "train", "query": "test", "gallery": "gallery"}
    places = {
        path: (splits[split], label)
        for path, label, split in archives.lines("list_eval_partition.txt")[2:]
    }
    for file, read in archives.images("img.zip"):
        path = "/".join(file.split("/")[-5:])
        if path in places:
            split, label = places[path]
            yield Example(split, label, file, read, "/".join(path.split("/")[1:3]))


def omniglot(archives: Archives) -> Iterator[Example]:
    """images_background/Greek/character01/0394_01.png; background to train."""
    yield from _characters(archives, "images_background.zip", "train")
    yield from _characters(archives, "images_evaluation.zip", "test")


def omniglot_small(archives: Archives) -> Iterator[Example]:
    """The alphabets of small1 to train, and those that only small2 has to test."""
    known = set()
    for example in _characters(archives, "images_background_small1.zip", "train"):
        known.add(example.group)
        yield example
    for example in _characters(archives, "images_background_small2.zip", "test"):
        if example.group not in known:
            yield example


def _characters(archives: Archives, name: str, split: str) -> Iterator[Example]:
    for file, read in archives.images(name):
        alphabet, character = file.split("/")[-3:-1]
        yield Example(split, f"{alphabet}/{character}", file, read, alphabet)


def flowers(archives: Archives) -> Iterator[Example]:
    """jpg/image_00001.jpg, of 102 classes; 1-51 to train."""
    labels = _mat(archives.read("imagelabels.mat"))["labels"].ravel()
    for file, read in archives.images("102flowers.tgz"):
        label = int(labels[int(file[-9:-4]) - 1])
        yield Example(_half(label, 51), f"{label:03d}", file, read)


def lfw(archives: Archives) -> Iterator[Example]:
    """lfw/Aaron_Eckhart/Aaron_Eckhart_0001.jpg; who is in pairs.txt is to test."""
    tested = {name for pair in lfw_pairs(archives) for name in pair[:2]}
    tested = {name.rpartition("_")[0] for name in tested}
    for file, read in archives.images("lfw.tgz"):
        label = file.split("/")[-2]
        yield Example("test" if label in tested else "train", label, file, read)


def lfw_pairs(archives: Archives) -> list[tuple[str, str, bool, int]]:
    """Names of two images, whether they show one person, and the fold; of pairs.txt.

    Its first line has the number of folds and of pairs of either kind in each. As CSV
    it has a heading instead, and the first pairs of one person tell how many there are.
    """
    lines = [" ".join(words).replace(",", " ") for words in archives.lines("pairs.txt")]
    head, *rows = [" ".join(line.split()) for line in lines] or [""]
    found = [re.fullmatch(r"(\S+) (\d+) (?:(\S+) )?(\d+)", row) for row in rows]
    if None in found:
        raise ValueError(
            "pairs.txt must have a name and two numbers, or two names with a number "
            f"each, in every line, got {rows[found.index(None)]!r}"
        )
    words = [match.groups() for match in found if match]
    if re.fullmatch(r"\d+ \d+", head):
        folds, each = map(int, head.split())
    elif head.startswith("name "):
        each = next((i for i, row in enumerate(words) if row[2]), 0)
        folds = len(rows) // (2 * each or 1)
    else:
        raise ValueError(
            "pairs.txt must begin with the numbers of folds and of pairs, or with the "
            f"heading of a CSV file, got {head!r}"
        )
    if not rows or len(rows) != 2 * folds * each:
        raise ValueError(f"pairs.txt has {len(rows)} pairs, not 2 x {folds} x {each}")
    return [
        (
            f"{one}_{int(first):04d}",
            f"{other or one}_{int(second):04d}",
            other is None,
            number // (2 * each),
        )
        for number, (one, first, other, second) in enumerate(words)
    ]


def reid_of(name: str) -> Layout:
    """bounding_box_train, query and bounding_box_test, 0002_c1s1_000451_03.jpg."""

    def layout(archives: Archives) -> Iterator[Example]:
        for file, read in archives.images(name):
            found = person_of(file)
            if found:
                split, person, camera = found
                yield Example(split, person, file, read, camera=camera)

    return layout


def inaturalist(archives: Archives) -> Iterator[Example]:
    """train_val2018/Aves/2761/0b5b.jpg; the lists of paths split the classes."""
    splits: dict[str, str] = {}
    for split in ("train", "test"):
        for words in archives.lines(f"Inaturalist_{split}_set1.txt"):
            splits["/".join(words[-1].split("/")[-3:])] = split
    for file, read in archives.images("train_val2018.tar.gz"):
        group, label, image = file.split("/")[-3:]
        split_or_none = splits.get(f"{group}/{label}/{image}")
        if split_or_none:
            yield Example(split_or_none, f"{group}/{label}", file, read, group)


def cifar100(archives: Archives) -> Iterator[Example]:
    """Records of a coarse label, a fine label and 3 x 32 x 32 bytes; 0-49 to train."""
    name = "cifar-100-binary.tar.gz"
    coarse, fine = (
        [words[0] for words in archives.lines(name, f"{kind}_label_names.txt")]
        for kind in ("coarse", "fine")
    )
    for part in ("train", "test"):
        records = np.frombuffer(archives.read(name, f"{part}.bin"), np.uint8)
        for number, record in enumerate(records.reshape(-1, 2 + 3 * 32 * 32)):
            image = record[2:].reshape(3, 32, 32).transpose(1, 2, 0)
            yield Example(
                _half(int(record[1]) + 1, 50),
                f"{record[1]:02d} {fine[record[1]]}",
                f"{part}.bin/{number}",
                _png(image),
                coarse[record[0]],
            )


def mnist(archives: Archives) -> Iterator[Example]:
    """The four files of MNIST, Fashion-MNIST or Kuzushiji-MNIST; 0-4 to train."""
    for part in ("train", "t10k"):
        pixels, labels = (
            gzip.decompress(archives.read(f"{part}-{kind}-ubyte.gz"))
            for kind in ("images-idx3", "labels-idx1")
        )
        height, width = np.frombuffer(pixels, ">i4", 2, 8)
        images = np.frombuffer(pixels, np.uint8, offset=16).reshape(-1, height, width)
        for number, image in enumerate(images):
            label = labels[8 + number]
            file = f"{part}/{number}"
            yield Example(_half(label + 1, 5), str(label), file, _png(image))


def _half(number: int, last: int) -> str:
    """The split of a class by its number, from 1 to `last` for training."""
    return "train" if number <= last else "test"


def _mat(content: bytes) -> dict[str, np.ndarray]:
    from scipy.io import loadmat

    return loadmat(io.BytesIO(content))


def _png(image: np.ndarray) -> Read:
    def encode() -> bytes:
        file = io.BytesIO()
        Image.fromarray(image).save(file, "PNG", compress_level=1)
        return file.getvalue()

    return encode
