"""Data sets that are drawn, not downloaded: characters in many fonts, and digits.

Characters are drawn in the fonts that come with matplotlib, which differ in what they
cover. Some characters look alike: Latin A, Greek Alpha and Cyrillic A are one drawing
in many fonts. Characters that share a drawing are one class here, or no model could
tell its classes apart.
"""

import io
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import matplotlib
import numpy as np
from matplotlib.ft2font import FT2Font
from PIL import Image, ImageDraw, ImageFilter, ImageFont
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from rankjax.data.augmentation import affine_coefficients, warped
from rankjax.data.catalogue import CATALOGUE
from rankjax.data.images import png
from rankjax.data.random import Stream, generator
from rankjax.data.splits import Row

if TYPE_CHECKING:
    from rankjax.data.archives import Archives

SIZE = 32
_FONT = 5 / 8  # of an image's side
_WIDEST = 7 / 8
_FEWEST_IMAGES = 8

_STYLES = ("", "-Bold", "-Oblique", "-BoldOblique")
_SERIF_STYLES = ("", "-Bold", "-Italic", "-BoldItalic")
_UNICODE_FONTS = (
    *("DejaVuSans" + style for style in _STYLES),
    *("DejaVuSansMono" + style for style in _STYLES),
    *("DejaVuSerif" + style for style in _SERIF_STYLES),
    *("STIXGeneral" + style for style in ("", "Bol", "Italic", "BolIta")),
)
# Outside of these ranges the Computer Modern fonts hold other drawings than their
# character map says. The remaining fonts hold symbols of sizes or placeholders.
_LETTERS = frozenset(map(ord, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"))
_LETTERS_DIGITS = _LETTERS | frozenset(map(ord, "0123456789"))
_PARTIAL_FONTS = {
    **dict.fromkeys(("cmr10", "cmb10", "cmss10", "cmtt10", "cmti10"), _LETTERS_DIGITS),
    "cmmi10": _LETTERS,
}
FONTS = (*_UNICODE_FONTS, *_PARTIAL_FONTS)
Perturb = Callable[[np.ndarray, np.random.Generator], np.ndarray]


class Glyphs(NamedTuple):
    """Drawings in order of class, code point and font.

    Attributes:
      images: uint8 [n, size, size], ink is bright.
      labels: int64 [n], 0 .. classes - 1.
      codepoints: int64 [n].
      fonts: int64 [n], into the names of the fonts.
    """

    images: np.ndarray
    labels: np.ndarray
    codepoints: np.ndarray
    fonts: np.ndarray


@dataclass(frozen=True)
class Level:
    """Which characters are drawn and what is done to the drawings.

    Attributes:
      number: part of the address of the level's randomness.
      keep: which characters.
      perturb: changes one uint8 [32, 32] drawing.
      merge_case: whether upper and lower case are one class.
      size: height and width of a drawing.
    """

    number: int
    keep: Callable[[str], bool]
    perturb: Perturb | None = None
    merge_case: bool = False
    size: int = SIZE


def render(level: Level, files: Mapping[str, bytes] | None = None) -> Glyphs:
    """All drawings of a level: at least 8 that differ in every class.

    Args:
      level: what is drawn.
      files: TrueType fonts by name; by default `FONTS`, which matplotlib has.
    """
    codepoints, fonts, images = map(
        np.array, zip(*_draw_all(level, files), strict=True)
    )
    drawings = [image.tobytes() for image in images]
    roots = _merge(codepoints.tolist(), drawings, merge_case=level.merge_case)
    upper = np.array([level.merge_case and chr(each).isupper() for each in codepoints])

    # One image for a class, font and case, and none twice.
    chosen: dict[tuple[int, int, bool], int] = {}
    seen: set[bytes] = set()
    for i in np.lexsort((fonts, codepoints, roots)).tolist():
        place = (roots[i], fonts[i], upper[i])
        if place not in chosen and drawings[i] not in seen:
            chosen[place] = i
            seen.add(drawings[i])
    rows = np.fromiter(chosen.values(), np.int64)
    labels = np.unique(roots[rows], return_inverse=True)[1]
    full = np.bincount(labels) >= _FEWEST_IMAGES
    if level.merge_case:
        for case in (upper[rows], ~upper[rows]):
            full &= np.bincount(labels, case) > 0
    rows = rows[full[labels]]
    if level.perturb:
        for row in rows:
            address = int(codepoints[row]) * len(FONTS) + int(fonts[row])
            rng = generator(0, Stream.GLYPHS, level.number, address)
            images[row] = level.perturb(images[row], rng)
    labels = np.unique(roots[rows], return_inverse=True)[1]
    return Glyphs(images[rows], labels, codepoints[rows], fonts[rows])


def split_classes(classes: int) -> dict[str, np.ndarray]:
    """Labels of the splits: 45% train, 5% validation, 50% test, always the same."""
    order = generator(0, Stream.GLYPHS).permutation(classes)
    half, held_out = classes // 2, round(classes / 20)
    return {
        "train": order[: half - held_out],
        "validation": order[half - held_out : half],
        "test": order[half:],
    }


def glyph_rows(level: Level, files: Mapping[str, bytes] | None = None) -> Iterator[Row]:
    """The drawings of a level, named by their code points and fonts; see `render`."""
    glyphs = render(level, files)
    fonts = tuple(files or FONTS)
    parts = split_classes(int(glyphs.labels[-1]) + 1)
    split_of = {int(label): split for split in parts for label in parts[split]}
    names: dict[int, str] = {}
    for image, label, codepoint, font in zip(
        glyphs.images, *(column.tolist() for column in glyphs[1:]), strict=True
    ):
        character, number = chr(codepoint), f"U+{codepoint:04X}"
        # The order of the first code points of classes is that of their labels.
        name = f"{character} {unicodedata.name(character, number)}"
        name, file = names.setdefault(label, name), f"{number} {fonts[font]}"
        yield Row(partial(png, image), name, split_of[label], name=file)


def han_rows(archives: "Archives") -> Iterator[Row]:
    """Chinese characters in the regular faces of the catalogue's fonts."""
    files = {}
    for package in CATALOGUE["han"].files:
        for file, read in archives.members(package):
            if file.endswith("_400Regular.ttf"):
                files[package] = read()
    yield from glyph_rows(_HAN, files)


def digit_rows() -> Iterator[Row]:
    """The 8 x 8 digits of scikit-learn: 0-4 to train on, 5-9 to test on."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = np.rint(digits.images * (255 / 16)).astype(np.uint8)
    for number, (image, label) in enumerate(zip(images, digits.target, strict=True)):
        split = "train" if label < 5 else "test"
        yield Row(partial(png, image), str(label), split, name=f"digit {number}")


def _draw_all(
    level: Level, files: Mapping[str, bytes] | None
) -> Iterator[tuple[int, int, np.ndarray]]:
    """Every (code point, font, drawing) that has ink and fits."""
    if files is None:
        folder = Path(matplotlib.get_data_path(), "fonts", "ttf")
        files = {name: (folder / f"{name}.ttf").read_bytes() for name in FONTS}
    for number, (name, content) in enumerate(files.items()):
        font = ImageFont.truetype(
            io.BytesIO(content),
            level.size * _FONT,
            layout_engine=ImageFont.Layout.BASIC,
        )
        codepoints = FT2Font(io.BytesIO(content)).get_charmap().keys()
        for codepoint in sorted(codepoints & _PARTIAL_FONTS.get(name, codepoints)):
            character = chr(codepoint)
            if _is_symbol(character) and level.keep(character):
                image = _draw(character, font, level.size)
                if image is not None:
                    yield codepoint, number, image


def _draw(character: str, font: ImageFont.FreeTypeFont, size: int) -> np.ndarray | None:
    """The character in the middle; None without ink or with no room to turn it.

    Up and down, the box that is centred reaches to the baseline, so that a comma stays
    lower than an apostrophe.
    """
    left, top, right, bottom = font.getbbox(character)
    width, height = right - left, bottom - top
    if not (0 < width <= size * _WIDEST and 0 < height <= size * _WIDEST):
        return None
    canvas = Image.new("L", (size, size))
    corner = ((size - width) / 2 - left, (size - height) / 2 - top)
    ImageDraw.Draw(canvas).text(corner, character, fill=255, font=font)
    image = np.asarray(canvas)
    return image if image.max() >= 64 else None


def _merge(
    codepoints: list[int], drawings: list[bytes], *, merge_case: bool
) -> np.ndarray:
    """For each drawing the smallest code point that its own is tied to."""
    known = sorted({*codepoints})
    place = {codepoint: i for i, codepoint in enumerate(known)}
    first: dict[bytes, int] = {}
    ties = [
        (place[codepoint], place[first.setdefault(drawing, codepoint)])
        for codepoint, drawing in zip(codepoints, drawings, strict=True)
    ]
    if merge_case:
        cases = ((place[each], ord(chr(each).swapcase())) for each in known)
        ties += [(one, place[other]) for one, other in cases if other in place]
    component = components(np.array(ties).T, len(known))
    smallest = np.unique(component, return_index=True)[1]
    return np.array([known[smallest[component[place[each]]]] for each in codepoints])


def components(ties: np.ndarray, n: int) -> np.ndarray:
    """Which component each of n things is in, of which pairs [2, m] are tied."""
    graph = coo_array((np.ones(ties.shape[1]), ties), (n, n))
    return connected_components(graph, directed=False)[1]


def _is_symbol(character: str) -> bool:
    category = unicodedata.category(character)
    return category[0] in "LNSP" and category not in ("Lm", "Sk")


def _is_unaccented(character: str) -> bool:
    return len(unicodedata.normalize("NFD", character)) == 1


def _has_two_cases(character: str) -> bool:
    other = character.swapcase()
    return len(other) == 1 and other != character and other.swapcase() == character


def _pose(
    rotation: float, scale: tuple[float, float], shear: float, shift: float
) -> Perturb:
    def perturb(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        six = affine_coefficients(
            SIZE,
            rng.uniform(-rotation, rotation),
            rng.uniform(*scale),
            rng.uniform(-shear, shear),
            rng.uniform(-shift, shift, 2),
        ).tolist()
        posed = warped(image[..., None], image.shape, Image.Transform.AFFINE, six)
        return posed[..., 0]

    return perturb


def _clutter(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Blur, contrast, a smooth background, noise of sigma .1, half inverted."""
    blurred = Image.fromarray(image).filter(
        ImageFilter.GaussianBlur(float(rng.uniform(0, 1)))
    )
    coarse = Image.fromarray(rng.integers(0, 80, (5, 5), np.uint8))
    texture = coarse.resize((SIZE, SIZE), Image.Resampling.BICUBIC)
    background = np.asarray(texture).astype(np.int64)
    # Integers, so that every machine rounds alike.
    ink = int(rng.integers(128, 256))
    mixed = background + np.asarray(blurred) * (ink - background // 2) // 255
    noisy = mixed + np.rint(rng.normal(0, 25.5, image.shape)).astype(np.int64)
    clipped = noisy.clip(0, 255).astype(np.uint8)
    return 255 - clipped if rng.random() < 0.5 else clipped


LEVELS = {
    "clean": Level(0, lambda character: True),
    "lite": Level(1, _is_unaccented, _pose(8, (0.9, 1.1), 0.1, 1)),
    "pose": Level(2, _is_unaccented, _pose(20, (0.75, 1.15), 0.2, 2)),
    "clutter": Level(3, _is_unaccented, _clutter),
    "modes": Level(4, _has_two_cases, merge_case=True),
}

_HAN = Level(5, lambda character: "\u4e00" <= character <= "\u9fff", size=48)

DRAWN: dict[str, Callable[[], Iterator[Row]]] = {
    **{f"glyphs/{name}": partial(glyph_rows, level) for name, level in LEVELS.items()},
    "digits": digit_rows,
}
"""What gives the rows of a data set that is drawn, by its name in the catalogue."""
