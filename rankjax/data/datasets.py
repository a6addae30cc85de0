"""Data sets by name."""

from pathlib import Path
from typing import Literal

from rankjax.data.catalogue import CATALOGUE
from rankjax.data.images import Alpha, Fit, default_fit
from rankjax.data.own import load_folder, load_list, load_reid, write_kind
from rankjax.data.splits import Dataset, LoadOptions
from rankjax.errors import UsageError, unknown_name

_OWN = {"folder": load_folder, "list": load_list, "reid": load_reid}
_KINDS = ("folder:PATH", "list:FILE", "reid:PATH", "tfds:NAME")


def load(
    name: str,
    *,
    data_dir: Path,
    manual_dir: Path | None = None,
    image_size: int | tuple[int, int] | None = 32,
    short_side: int | None = None,
    fit: Fit | Literal["auto"] = "auto",
    alpha: Alpha = "white",
    seed: int = 0,
    fold: int | None = None,
    folds: int = 4,
    on_damage: Literal["stop", "skip", "keep"] = "stop",
    check_images: Literal["headers", "all"] = "headers",
) -> Dataset:
    """A data set whose splits have no class in common; prepared on first use.

    Names:
      cub, cars, sop, in_shop and others: benchmarks, see `rankjax.data.CATALOGUE`.
      glyphs: characters in many fonts, `glyphs/lite`; also `glyphs/clean`, `/pose`,
        `/clutter` and `/modes`. Its splits are fixed.
      icons: pictures of the same name by many designers, drawn from one archive.
      han: Chinese characters in 17 fonts, which are archives to fetch by hand.
      digits: ten classes of 8x8 pixels, for quick checks.
      folder:PATH: one folder of images per class, or the same below folders `train`,
        `validation` (optional) and `test`.
      list:FILE: a CSV or Parquet file with the columns path and label, and maybe
        split, camera and super.
      reid:PATH: persons in the folders of Market-1501.
      tfds:NAME, tfds:NAME/CONFIG, tfds:PATH: any TFDS data set with images and integer
        labels, or a folder that TFDS has prepared, of array_record files.

    Args:
      name: one of the above.
      data_dir: where prepared data sets are kept; made if missing.
      manual_dir: where archives that have to be fetched by hand are, maybe each
        benchmark's in a folder of its name; by default `data_dir`/downloads/manual.
      image_size: height and width of images as they are evaluated, or both; None for
        what a benchmark's papers use.
      short_side: what their short side is resized to before the centre is cut out; by
        default as much larger than `image_size` as in a benchmark's papers, and
        `image_size` for other data sets.
      fit: how images of other shapes become images of that size: `crop` cuts out the
        centre, `squash` stretches, and `letterbox` fills margins with the colour of the
        image's edges. `auto` is `crop` for squares and `squash` for other sizes but,
        where that would lose more than 40% of an image of your own on average,
        `letterbox`, and says so on stderr.
      alpha: what transparent pixels are blended on; `drop` keeps their hidden colours.
      seed: which classes are for validation, and for training in a plain folder or
        list, where the data set does not say.
      fold: for cross-validation, which of `folds` disjoint parts of the training
        classes (those for validation among them) validates; the rest trains.
      folds: the number of parts.
      on_damage: `stop` at images that cannot be decoded, `skip` all such images, which
        decodes every image beforehand and names them on stderr, or `keep` them until
        they are read.
      check_images: how they are found before anything is read: by the `headers` and
        ends of your own files, or by decoding `all` images of any data set.

    Raises:
      ValueError: `image_size` < 1, or `short_side` < `image_size`.
      UsageError: no such data set, folder or fold.
      RunError: a data set that cannot be prepared, of another size than expected, or
        damaged files.
    """
    name = "glyphs/lite" if name == "glyphs" else name
    entry = CATALOGUE.get(name)
    if image_size is None and entry:
        size = entry.preprocessing.height, entry.preprocessing.width
    elif image_size is None:
        raise UsageError(f"image_size must be given for {name}")
    else:
        size = (image_size, image_size) if isinstance(image_size, int) else image_size
    if min(size) < 1:
        raise UsageError(f"image_size must be at least 1, got {image_size}")
    if short_side is None and entry:
        resize, *crop = entry.preprocessing
        short_side = round(min(size) * resize / min(crop))
    if short_side is not None and short_side < min(size):
        raise ValueError(
            f"short_side must be at least image_size, {min(size)}, got {short_side}"
        )
    if fit == "auto" and entry:
        fit = default_fit(*size)
    options = LoadOptions(
        size, short_side, fit, alpha, seed, fold, folds, on_damage, check_images
    )
    kind, _, rest = name.partition(":")
    if entry or (kind == "tfds" and rest):
        # Importing TFDS takes a second that own images need not spend.
        from rankjax.data.tfds import load_benchmark, load_tfds

        if entry:
            return load_benchmark(
                entry, data_dir=data_dir, manual_dir=manual_dir, options=options
            )
        return load_tfds(
            rest, name=name, data_dir=data_dir, manual_dir=manual_dir, options=options
        )
    if kind in _OWN and rest:
        path = Path(rest).expanduser()  # shells do not expand it behind the colon
        return _OWN[kind](path, name=name, options=options)
    if kind == "features" and rest:
        raise UsageError(
            f"{name} has embeddings and no images; only experiments.train takes it"
        )
    path = Path(name).expanduser()
    if path.exists():
        raise UsageError(f"no data set {name!r}, but a path{write_kind(path)}")
    raise unknown_name("data set", name, (*CATALOGUE, *_KINDS))
