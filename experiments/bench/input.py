"""How fast photos become batches, against the decoder alone and tf.data.

python -m experiments.bench.input [--json FILE] [--quick]

JPEGs of 500 x 375 to random crops of 224, mirrored or not. `bare` only decodes and
resizes, `loader` makes whole batches, `tf.data` decodes only the part that is cut out
(where TensorFlow is installed). `over_bare` is the speed over that of `bare` with as
many threads, `over_bare_cpu` the same of CPU time. The JPEGs are made, as large and as
costly as those of CUB-200: quality 95, about 60 KB, smoothed noise under a few shapes.

Two minutes on two cores; `--quick` takes twenty seconds.
"""

import argparse
import functools
import io
import sys
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from experiments.bench import output, timing
from experiments.bench.output import Row
from experiments.bench.timing import Rep, Unavailable
from rankjax.data import Augmentation, Loader, Split, class_balanced_batches
from rankjax.data.augmentation import random_boxes
from rankjax.data.images import EncodedImages, decode, resize

SHOWN = {
    "way": "",
    "threads": "d",
    "images_per_s": ",.0f",
    "cpu_us_per_image": ",.0f",
    "over_bare": ".2f",
    "over_bare_cpu": ".2f",
    "note": "",
}
SIZE = 224
CLASSES, PER_CLASS = 16, 4
BATCH = CLASSES * PER_CLASS


def photo(number: int) -> bytes:
    """A JPEG of 500 x 375, the same at every call."""
    rng = np.random.default_rng(number)
    coarse = rng.integers(0, 256, (12, 16, 3), np.uint8)
    image = Image.fromarray(coarse).resize((500, 375), Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(image)
    for _ in range(12):
        x, y, r = rng.integers((0, 0, 10), (500, 375, 90)).tolist()
        colour = tuple(rng.integers(0, 256, 3).tolist())
        draw.ellipse((x - r, y - r // 2, x + r, y + r // 2), fill=colour)
    grain = rng.normal(128, 9, (375, 500, 3)).clip(0, 255).astype(np.uint8)
    blurred = Image.fromarray(grain).filter(ImageFilter.GaussianBlur(1))
    mixed = np.asarray(image).astype(int) + np.asarray(blurred).astype(int) - 128
    content = io.BytesIO()
    mixed = mixed.clip(0, 255).astype(np.uint8)
    Image.fromarray(mixed).save(content, "JPEG", quality=95)
    return content.getvalue()


class Photos:
    """Ways to make crops of the same photos, by as many threads."""

    def __init__(self, count: int, threads: int) -> None:
        self.files = [photo(i) for i in range(count)]
        self.threads, self.steps = threads, count // BATCH
        labels = np.arange(count, dtype=np.int32) // PER_CLASS
        images = EncodedImages(
            lambda indices: [self.files[i] for i in indices],
            count,
            (SIZE, SIZE, 3),
            name=str,
        )
        self.split = Split(images, labels, tuple(map(str, range(count // PER_CLASS))))
        self.crop = Augmentation("random_resized_crop")

    def bare(self) -> Rep:
        """Nothing but the decoder and the resizing, of parts that are known before."""
        draws = np.random.default_rng(0).random((len(self.files), 22))
        shapes = np.array([[375, 500]] * len(self.files))
        boxes, _ = random_boxes(draws, shapes, (0.08, 1.0), (3 / 4, 4 / 3))

        def one(number: int) -> np.ndarray:
            pixels = decode(self.files[number], channels=3)
            top, left, high, wide = boxes[number]
            part = pixels[top : top + high, left : left + wide]
            return resize(part, SIZE, SIZE)

        def some(numbers: range) -> None:
            for number in numbers:
                one(number)

        parts = [range(i, len(self.files), self.threads) for i in range(self.threads)]
        with ThreadPoolExecutor(self.threads) as pool:
            return timing.timed(lambda: deque(pool.map(some, parts), maxlen=0))

    def loader(self) -> Rep:
        """The loader, from class-balanced batches to the arrays of a batch."""
        batches = class_balanced_batches(
            self.split.labels, classes=CLASSES, per_class=PER_CLASS, seed=0
        )
        loader = Loader(
            self.split,
            batches,
            augmentation=self.crop,
            seed=0,
            start_step=0,
            stop_step=self.steps,
            threads=self.threads,
        )
        with loader:
            return timing.timed(lambda: deque(loader, maxlen=0))

    def tf_data(self) -> Rep:
        """tf.data's fused decoding of the part that is cut out; linear resizing."""
        return timing.timed(lambda: deque(self._pipeline(), maxlen=0))

    @functools.cached_property
    def _pipeline(self) -> Any:
        if not find_spec("tensorflow"):
            raise Unavailable("TensorFlow is not installed: pip install 'rankjax[tf]'")
        import tensorflow as tf

        def one(content: Any) -> Any:
            top, size, _ = tf.image.sample_distorted_bounding_box(
                tf.image.extract_jpeg_shape(content),
                tf.zeros((1, 0, 4)),
                area_range=(0.08, 1.0),
                aspect_ratio_range=(3 / 4, 4 / 3),
                max_attempts=10,
                use_image_if_no_bounding_boxes=True,
            )
            window = tf.concat([top[:2], size[:2]], 0)
            part = tf.image.decode_and_crop_jpeg(
                content, window, channels=3, dct_method="INTEGER_FAST"
            )
            part = tf.image.resize(part, (SIZE, SIZE))
            return tf.cast(tf.image.random_flip_left_right(part), tf.uint8)

        data = tf.data.Dataset.from_tensor_slices(self.files)
        data = data.map(one, num_parallel_calls=self.threads).batch(BATCH).prefetch(4)
        options = tf.data.Options()
        options.threading.private_threadpool_size = self.threads
        return data.with_options(options).as_numpy_iterator


def bench(count: int, threads: Sequence[int], reps: int) -> list[Row]:
    """A row for each way and number of threads, taken in turn."""
    rows: list[Row] = []
    for number in threads:
        photos = Photos(count, number)
        ways = {"bare": photos.bare, "loader": photos.loader, "tf.data": photos.tf_data}
        found, failed = timing.interleaved(ways, reps=reps, seconds=60)
        bare = timing.spread(found["bare"])
        for way in ways:
            row: Row = {"way": way, "threads": number, "note": failed.get(way, "")}
            if way in found:
                times = timing.spread(found[way])
                done = photos.steps * BATCH
                row["images_per_s"] = done / times["wall_s"]
                row["cpu_us_per_image"] = 1e6 * times["cpu_s"] / done
                row["over_bare"] = bare["wall_s"] / times["wall_s"]
                row["over_bare_cpu"] = bare["cpu_s"] / times["cpu_s"]
            rows.append(row)
    return rows


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", type=Path, help="also write the rows to this file")
    parser.add_argument("--quick", action="store_true", help="fewer photos")
    options = parser.parse_args(arguments)
    rows = bench(64, (1, 2), 2) if options.quick else bench(512, (1, 2), 9)
    output.show("Photos to crops", rows, SHOWN)
    output.save(options.json, rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
