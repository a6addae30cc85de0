"""The field's archives, read as they are without TensorFlow, and their TFDS builder.

Every layout goes once through the archives of a data set, in their own order, and says
of each image its class, split, camera and super-class. The names of classes sort as
their numbers do.
"""

import gzip
import io
import os
import pickle
import re
import tarfile
import zipfile
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image
from scipy.io import loadmat

from rankjax.data.catalogue import CATALOGUE
from rankjax.data.glyphs import DRAWN, han_rows
from rankjax.data.icons import icon_rows
from rankjax.data.images import SUFFIXES, png
from rankjax.data.own import person_of
from rankjax.data.splits import LISTS, Row, contents_of

_PACKED = re.compile(r"\.(zip|tgz|tar\.gz|tar)$")

Read = Callable[[], bytes]


class Archives:
    """The archives that a person put into a folder, packed or unpacked."""

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        """`folder` holds the archives."""
        self._folder = Path(folder)

    def find(self, name: str) -> Path | None:
        """A file of this name, or a folder of this name without its suffix."""
        candidates = (self._folder / name, self._folder / _PACKED.sub("", name))
        return next((path for path in candidates if path.exists()), None)

    def members(self, name: str) -> Iterator[tuple[str, Read]]:
        """Path and content of every file in an archive, which is read once through.

        Contents must be read before the next one is asked for.

        Raises:
          FileNotFoundError: there is no such archive.
          ValueError: it is neither a folder nor zip nor tar.
        """
        path = self.find(name)
        if path is None:
            raise FileNotFoundError(f"there is no {self._folder / name}")
        if path.is_dir():
            for file in filter(Path.is_file, sorted(path.rglob("*"))):
                yield file.relative_to(self._folder).as_posix(), file.read_bytes
        elif zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                for info in archive.infolist():
                    if not info.is_dir():
                        yield info.filename, partial(archive.read, info)
        elif tarfile.is_tarfile(path):
            with tarfile.open(path, "r|*") as archive:
                for entry in archive:
                    content = archive.extractfile(entry)
                    if content is not None and entry.isfile():
                        yield entry.name, content.read
        else:
            raise ValueError(f"{path} is neither zip nor tar; it may be cut off")

    def images(self, name: str) -> Iterator[tuple[str, Read]]:
        """The members that are images by their suffix."""
        for file, read in self.members(name):
            hidden = file.rpartition("/")[2].startswith(".")
            if file.lower().endswith(SUFFIXES) and not hidden:
                yield file, read

    def read(self, name: str, member: str = "") -> bytes:
        """A file of the folder, or the member of an archive whose path ends so.

        Raises:
          FileNotFoundError: there is no such file.
        """
        if not member:
            return (self._folder / name).read_bytes()
        for file, read in self.members(name):
            if f"/{file}".endswith(f"/{member}"):
                return read()
        raise FileNotFoundError(f"{self._folder / name} holds no {member}")

    def lines(self, name: str, member: str = "") -> list[list[str]]:
        """The words of each line of a text file that is not empty.

        Raises:
          ValueError: it is not in UTF-8.
        """
        try:
            text = self.read(name, member).decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise ValueError(
                f"{member or name} is not text in UTF-8: {error}"
            ) from error
        return [line.split() for line in text.splitlines() if line.strip()]


Layout = Callable[[Archives], Iterator[Row]]


def cub(archives: Archives) -> Iterator[Row]:
    """CUB_200_2011/images/017.Cardinal/Cardinal_0001_17057.jpg; 1-100 to train."""
    for file, read in archives.images("CUB_200_2011.tgz"):
        label = file.split("/")[-2]
        if re.match(r"\d{3}\.", label):
            yield Row(read, label, _half(int(label[:3]), 100), name=file)


def cars(archives: Archives) -> Iterator[Row]:
    """cars_train/00001.jpg and cars_test/00001.jpg, of 196 classes; 1-98 to train."""
    annotations = {
        "cars_train": archives.read("car_devkit.tgz", "cars_train_annos.mat"),
        "cars_test": archives.read("cars_test_annos_withlabels.mat"),
    }
    for folder, content in annotations.items():
        rows = loadmat(io.BytesIO(content))["annotations"].ravel()
        labels = {str(row["fname"].item()): int(row["class"].item()) for row in rows}
        for file, read in archives.images(f"{folder}.tgz"):
            label = labels[file.rpartition("/")[2]]
            yield Row(read, f"{label:03d}", _half(label, 98), name=file)


def sop(archives: Archives) -> Iterator[Row]:
    """Stanford_Online_Products/bicycle_final/111085122871_0.JPG; the lists split."""
    name, places = "Stanford_Online_Products.zip", {}
    for split in ("train", "test"):
        for _, label, _, path in archives.lines(name, f"Ebay_{split}.txt")[1:]:
            places[path] = split, label
    for file, read in archives.images(name):
        folder, image = file.split("/")[-2:]
        split, label = places[f"{folder}/{image}"]
        kind = folder.removesuffix("_final")
        yield Row(read, f"{int(label):05d}", split, super_class=kind, name=file)


def in_shop(archives: Archives) -> Iterator[Row]:
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
            kind = "/".join(path.split("/")[1:3])
            yield Row(read, label, split, super_class=kind, name=file)


def omniglot(archives: Archives) -> Iterator[Row]:
    """images_background/Greek/character01/0394_01.png; background to train."""
    yield from _characters(archives, "images_background.zip", "train")
    yield from _characters(archives, "images_evaluation.zip", "test")


def omniglot_small(archives: Archives) -> Iterator[Row]:
    """The alphabets of small1 to train, and those that only small2 has to test."""
    known = set()
    for row in _characters(archives, "images_background_small1.zip", "train"):
        known.add(row.super_class)
        yield row
    for row in _characters(archives, "images_background_small2.zip", "test"):
        if row.super_class not in known:
            yield row


def _characters(archives: Archives, name: str, split: str) -> Iterator[Row]:
    for file, read in archives.images(name):
        alphabet, character = file.split("/")[-3:-1]
        label = f"{alphabet}/{character}"
        yield Row(read, label, split, super_class=alphabet, name=file)


def flowers(archives: Archives) -> Iterator[Row]:
    """jpg/image_00001.jpg, of 102 classes; 1-51 to train."""
    labels = loadmat(io.BytesIO(archives.read("imagelabels.mat")))["labels"].ravel()
    for file, read in archives.images("102flowers.tgz"):
        label = int(labels[int(file[-9:-4]) - 1])
        yield Row(read, f"{label:03d}", _half(label, 51), name=file)


def lfw(archives: Archives) -> Iterator[Row]:
    """lfw/Aaron_Eckhart/Aaron_Eckhart_0001.jpg; who is in pairs.txt is to test."""
    tested = {name for pair in lfw_pairs(archives) for name in pair[:2]}
    tested = {name.rpartition("_")[0] for name in tested}
    for file, read in archives.images("lfw.tgz"):
        label = file.split("/")[-2]
        yield Row(read, label, "test" if label in tested else "train", name=file)


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


def reid(name: str, archives: Archives) -> Iterator[Row]:
    """bounding_box_train, query and bounding_box_test, 0002_c1s1_000451_03.jpg."""
    for file, read in archives.images(name):
        if found := person_of(file):
            split, person, camera = found
            yield Row(read, person, split, camera, name=file)


def revisited(name: str, archives: Archives) -> Iterator[Row]:
    """jpg/all_souls_000013.jpg, queries cut to what is asked for; nothing to train.

    The label is the tag that the image was found by, which need not be what it shows.
    """
    truth = ground_truth(archives, name)
    boxes = [query["bbx"] for query in truth["gnd"]]
    for image, box in zip(truth["qimlist"], boxes, strict=True):
        file, tag = f"jpg/{image}.jpg", image.rpartition("_")[0]
        yield Row(partial(_cut, archives, file, box), tag, "test", name=file)
    for image in truth["imlist"]:
        file, tag = f"jpg/{image}.jpg", image.rpartition("_")[0]
        yield Row(partial(archives.read, file), tag, "gallery", name=file)


def _cut(
    archives: Archives, file: str, box: tuple[float, float, float, float]
) -> bytes:
    with Image.open(io.BytesIO(archives.read(file))) as image:
        return png(np.asarray(image.convert("RGB").crop(box)))


class _Plain(pickle.Unpickler):
    """A pickle file may name any function, which is called when it is read."""

    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(
            f"it must hold lists, text and numbers alone, it names {module}.{name}"
        )


def ground_truth(archives: Archives, name: str) -> dict[str, Any]:
    """imlist and qimlist, names of images; gnd: of each query bbx, easy, hard and junk.

    Raises:
      pickle.UnpicklingError: the file names anything but containers, text and numbers.
    """
    return _Plain(io.BytesIO(archives.read(f"gnd_{name}.pkl"))).load()


def inaturalist(archives: Archives) -> Iterator[Row]:
    """train_val2018/Aves/2761/0b5b.jpg; the lists of paths split the classes."""
    splits = {
        "/".join(words[-1].split("/")[-3:]): split
        for split in ("train", "test")
        for words in archives.lines(f"Inaturalist_{split}_set1.txt")
    }
    for file, read in archives.images("train_val2018.tar.gz"):
        group, label, image = file.split("/")[-3:]
        path = f"{group}/{label}/{image}"
        if path in splits:
            label = f"{group}/{label}"
            yield Row(read, label, splits[path], super_class=group, name=file)


def cifar100(archives: Archives) -> Iterator[Row]:
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
            yield Row(
                partial(png, image),
                f"{record[1]:02d} {fine[record[1]]}",
                _half(int(record[1]) + 1, 50),
                super_class=coarse[record[0]],
                name=f"{part}.bin/{number}",
            )


def mnist(archives: Archives) -> Iterator[Row]:
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
            read, name = partial(png, image), f"{part}/{number}"
            yield Row(read, str(label), _half(label + 1, 5), name=name)


def _half(number: int, last: int) -> str:
    """The split of a class by its number, from 1 to `last` for training."""
    return "train" if number <= last else "test"


LAYOUTS: dict[str, Layout] = {
    "cub": cub,
    "cars": cars,
    "sop": sop,
    "in_shop": in_shop,
    "omniglot": omniglot,
    "omniglot_small": omniglot_small,
    "flowers": flowers,
    "lfw": lfw,
    "market1501": partial(reid, "Market-1501-v15.09.15.zip"),
    "dukemtmc": partial(reid, "DukeMTMC-reID.zip"),
    "roxford5k": partial(revisited, "roxford5k"),
    "rparis6k": partial(revisited, "rparis6k"),
    "inaturalist": inaturalist,
    "cifar100": cifar100,
    "mnist": mnist,
    "fashion_mnist": mnist,
    "kmnist": mnist,
}
"""What gives the rows of a benchmark, by its name in the catalogue."""

RENDERED: dict[str, Layout] = {"icons": icon_rows, "han": han_rows}
"""The same for data sets that are drawn from an archive, and whose classes are split
here."""


class Benchmark(tfds.core.GeneratorBasedBuilder):
    """Labelled images of an archive, or drawn, split for metric learning."""

    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS = [  # noqa: RUF012 - the name and type are TFDS's.
        tfds.core.BuilderConfig(name=name.replace("/", "_"), description=name)
        for name in (*LAYOUTS, *RENDERED, *DRAWN)
    ]
    MANUAL_DOWNLOAD_INSTRUCTIONS = "See rankjax.data.catalogue."

    def _info(self) -> tfds.core.DatasetInfo:
        channels = CATALOGUE[self.builder_config.description].channels
        text = tfds.features.Text()
        return tfds.core.DatasetInfo(
            builder=self,
            description=type(self).__doc__,
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(None, None, channels)),
                    "label": text,
                    "group": text,
                    "camera": np.int32,
                    "file": text,
                }
            ),
            metadata=tfds.core.MetadataDict(),
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        name = self.builder_config.description
        # What is drawn by itself needs no folder, which TFDS says is not there.
        archives = None if name in DRAWN else Archives(dl_manager.manual_dir)
        if archives is None or name in RENDERED:
            drawn = list(RENDERED[name](archives) if archives else DRAWN[name]())
            splits = dict.fromkeys(row.split for row in drawn)
            return {split: self._generate_examples(drawn, split) for split in splits}
        if name == "lfw":
            self.info.metadata["pairs"] = lfw_pairs(archives)
        protocol = CATALOGUE[name].protocol
        parts = ["train", "test"]
        if protocol in ("query-gallery", "reid"):
            parts.append("gallery")
        elif protocol == "revisited":
            parts = ["test", "gallery"]
            self.info.metadata["lists"] = [
                [each[name] for name in LISTS]
                for each in ground_truth(archives, name)["gnd"]
            ]
        return {
            split: self._generate_examples(LAYOUTS[name](archives), split)
            for split in parts
        }

    def _generate_examples(
        self, rows: Iterable[Row], split: str
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        for key, row in enumerate(rows):
            if row.split == split:
                example = {
                    "image": io.BytesIO(*contents_of([row])),
                    "label": row.label,
                    "group": row.super_class,
                    "camera": -1 if row.camera == "" else row.camera,
                    "file": row.name,
                }
                yield key, example
