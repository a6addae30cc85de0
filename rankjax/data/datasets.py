"""Data sets by name."""

from pathlib import Path

from rankjax.data.splits import Dataset
from rankjax.errors import unknown_name

_GLYPHS = tuple(
    f"glyphs/{level}" for level in ("clean", "lite", "pose", "clutter", "modes")
)
_NAMES = (*_GLYPHS, "digits")


def load(
    name: str,
    *,
    data_dir: Path,
    image_size: int = 32,
    short_side: int | None = None,
    seed: int = 0,
) -> Dataset:
    """A data set whose splits have no class in common; prepared on first use.

    Names:
      glyphs: characters in many fonts, `glyphs/lite`; also `glyphs/clean`, `/pose`,
        `/clutter` and `/modes`. Its splits are fixed.
      digits: ten classes of 8x8 pixels, for quick checks.
      folder:PATH: one folder of images per class, or the same below folders `train`,
        `validation` (optional) and `test`.
      tfds:NAME, tfds:NAME/CONFIG: any TFDS data set with images and integer labels.

    Args:
      name: one of the above.
      data_dir: where prepared data sets are kept; made if missing.
      image_size: height and width of images as they are judged.
      short_side: what their short side is resized to before the centre is cut out; by
        default `image_size`.
      seed: which classes are for validation, and for training in a plain folder,
        where the data set does not say.

    Raises:
      ValueError: `image_size` < 1.
      UsageError: no such data set or folder.
      RunError: a data set that cannot be prepared, or damaged files.
    """
    if image_size < 1:
        raise ValueError(f"image_size must be at least 1, got {image_size}")
    if short_side is not None and short_side < image_size:
        raise ValueError(
            f"short_side must be at least image_size, {image_size}, got {short_side}"
        )
    if name == "glyphs":
        name = "glyphs/lite"
    kind, _, rest = name.partition(":")
    if kind == "folder" and rest:
        from rankjax.data.folder import load_folder

        return load_folder(
            Path(rest),
            name=name,
            image_size=image_size,
            seed=seed,
            short_side=short_side,
        )
    if name in _NAMES or (kind == "tfds" and rest):
        # Importing TFDS takes a second that the other kinds need not spend.
        from rankjax.data.tfds_reader import load_tfds

        return load_tfds(
            rest or name,
            name=name,
            data_dir=data_dir,
            image_size=image_size,
            seed=seed,
            short_side=short_side,
        )
    raise unknown_name("data set", name, (*_NAMES, "folder:PATH", "tfds:NAME"))
