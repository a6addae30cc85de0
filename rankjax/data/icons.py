"""Icons: pictures of the same name in the sets of many designers.

Designers draw a thing as they like, and some draw it as others did, or call it by
another name. Drawings that hardly differ are in a class once, and names that share
several are one class, or no model could tell its classes apart.
"""

import io
import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from PIL import Image

from rankjax.data.catalogue import CATALOGUE
from rankjax.data.glyphs import components, split_classes
from rankjax.data.images import png
from rankjax.data.splits import Row
from rankjax.errors import RunError

if TYPE_CHECKING:
    from rankjax.data.archives import Archives

SIZE = 64
FEWEST_IMAGES = 6
_FEWEST_SHARED = 3
_FEWEST_LETTERS = 3
_SIDE = 16  # of what drawings are compared by
_BLOCK = 256
_LICENCES = (
    *("MIT", "Apache-2.0", "ISC", "BSD-3-Clause", "Unlicense", "OFL-1.1"),
    *("CC0-1.0", "CC-BY-3.0", "CC-BY-4.0"),
)
_VARIANT = re.compile(r"-(\d+|alt|fill|filled|outline|outlined|regular|solid)$")
_MEANINGLESS = (
    *("alt", "angle", "app", "area", "category", "component", "details", "element"),
    *("explicit", "five", "four", "good", "input", "item", "less", "material", "max"),
    *("medium", "misc", "mix", "mute", "negative", "new", "number", "off", "one"),
    *("option", "options", "other", "process", "product", "result", "service", "six"),
    *("solid", "special", "status", "step", "system", "theme", "thing", "three"),
    *("token", "tool", "topic", "touch", "two", "type", "value"),
)
"""Names that each designer takes to mean something else."""


class Icon(NamedTuple):
    """A drawing of a set.

    Attributes:
      set: the set's short name.
      name: in the set.
      svg: the picture.
    """

    set: str
    name: str
    svg: str


def icon_rows(archives: "Archives") -> Iterator[Row]:
    """The drawings of all classes, in order of class, half of the classes to test.

    Raises:
      RunError: resvg_py, which draws them, is not installed.
    """
    try:
        from resvg_py import svg_to_bytes
    except ImportError:
        raise RunError(
            "icons are drawn by resvg_py: pip install 'rankjax[icons]'"
        ) from None
    draw = partial(svg_to_bytes, width=SIZE, height=SIZE, background="white")
    drawn = []
    for name, found in sorted(read_icons(archives).items()):
        for icon in found:
            content = draw(icon.svg, skip_system_fonts=True)
            with Image.open(io.BytesIO(content)) as image:
                drawing = 255 - np.asarray(image.convert("L"))
            if drawing.max() >= 64:
                drawn.append((name, f"{icon.set}:{icon.name}", drawing))
    names, files, drawings = zip(*drawn, strict=True)
    classes = classes_of(names, np.stack(drawings))
    known = sorted({*classes} - {""})
    parts = split_classes(len(known))
    split_of = {known[i]: split for split in parts for i in parts[split]}
    for place in sorted(range(len(classes)), key=classes.__getitem__):
        if label := classes[place]:
            read = partial(png, drawings[place])
            yield Row(read, label, split_of[label], name=files[place])


def read_icons(archives: "Archives") -> dict[str, list[Icon]]:
    """An icon of each set that has one of a name, for names that enough sets have.

    Sets may be passed on with changes; those of emoji draw one picture over and over.
    A set's own words for its styles, and others that say how and not what is drawn,
    are no part of a name: of home, home-outline and home-2 a set's shortest is taken.
    Animations, which begin with nothing, are left out.
    """
    names: dict[str, dict[str, Icon]] = defaultdict(dict)
    for file, read in archives.members(*CATALOGUE["icons"].files):
        if not re.search(r"(^|/)json/[^/]+\.json$", file):
            continue
        content = json.loads(read())
        prefix, info = content["prefix"], content["info"]
        is_emoji = "emoji" in prefix or info.get("category") == "Emoji"
        if is_emoji or info["license"].get("spdx") not in _LICENCES:
            continue
        for icon, drawing in content["icons"].items():
            name = _name(icon, content)
            if drawing.get("hidden") or "<animate" in drawing["body"]:
                continue
            if len(name) < _FEWEST_LETTERS or name in _MEANINGLESS:
                continue
            old = names[name].get(prefix)
            if not old or len(icon) < len(old.name):
                names[name][prefix] = Icon(prefix, icon, _svg(content | drawing))
    return {
        name: [of[prefix] for prefix in sorted(of)]
        for name, of in names.items()
        if len(of) >= FEWEST_IMAGES
    }


def _name(icon: str, content: dict[str, Any]) -> str:
    """A name without what the set says its styles are."""
    for style, pattern in (("suffixes", "-({})$"), ("prefixes", "^({})-")):
        words = "|".join(map(re.escape, filter(None, content.get(style, ()))))
        icon = re.sub(pattern.format(words), "", icon)
    return _VARIANT.sub("", icon)


def _svg(icon: dict[str, Any]) -> str:
    """An icon in the middle of a square."""
    width, height = icon.get("width", 16), icon.get("height", 16)
    side = max(width, height)
    left = icon.get("left", 0) + (width - side) / 2
    top = icon.get("top", 0) + (height - side) / 2
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" '
        'xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'viewBox="{left} {top} {side} {side}">{icon["body"]}</svg>'
    )


def classes_of(names: Sequence[str], drawings: np.ndarray) -> list[str]:
    """The class of each drawing, which is its commonest name; empty if left out.

    Names that share three drawings or more are one class. Left out are other drawings
    that two names share, all but the first of drawings of a class that hardly differ,
    and classes of fewer than six that are left.

    Args:
      names: of n drawings.
      drawings: uint8 [n, 64, 64].
    """
    known, label = np.unique(names, return_inverse=True)
    pairs, same = _alike(drawings)
    crossing = pairs[:, same & (label[pairs[0]] != label[pairs[1]])]
    shared: dict[tuple[int, int], tuple[set[int], set[int]]] = {}
    for one, other in crossing.T.tolist():
        one, other = sorted((one, other), key=label.__getitem__)
        sides = shared.setdefault((label[one], label[other]), (set(), set()))
        sides[0].add(one)
        sides[1].add(other)
    ties = [
        key for key, sides in shared.items() if min(map(len, sides)) >= _FEWEST_SHARED
    ]
    group = components(np.array(ties, int).reshape(-1, 2).T, len(known))[label]

    left: np.ndarray = np.ones(len(names), bool)
    left[crossing[:, group[crossing[0]] != group[crossing[1]]]] = False
    near = (group[pairs[0]] == group[pairs[1]]) & left[pairs].all(0)
    first = np.unique(components(pairs[:, near], len(names)), return_index=True)[1]
    left &= np.isin(np.arange(len(names)), first)
    left &= (np.bincount(group[left], minlength=len(known)) >= FEWEST_IMAGES)[group]

    commonest: dict[int, str] = {}
    for name, _ in Counter(np.array(names)[left].tolist()).most_common():
        commonest.setdefault(group[names.index(name)], name)
    return [commonest[group[i]] if keep else "" for i, keep in enumerate(left.tolist())]


def _alike(drawings: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pairs [2, m] of drawings that hardly differ, and which of them do not at all.

    Drawings x and y of 16 x 16 pixels hardly differ if |x - y|^2 is at most a fiftieth,
    and do not differ if it is at most a thousandth, of |x|^2 + |y|^2.
    """
    n, cell = len(drawings), SIZE // _SIDE
    small = drawings.reshape(n, _SIDE, cell, _SIDE, cell).mean((2, 4), dtype=np.float32)
    # Sixteen levels, with which products are exact and every machine finds the same.
    small = np.rint(small / 17).reshape(n, -1)
    squares = (small**2).sum(1)
    found, same = [], []
    for start in range(0, n, _BLOCK):
        rows = slice(start, start + _BLOCK)
        both = squares[rows, None] + squares[start:]
        apart = both - 2 * (small[rows] @ small[start:].T)
        one, other = np.nonzero(apart <= both / 50)
        one, other = one[one < other], other[one < other]
        found.append(np.stack([one, other]) + start)
        same.append(apart[one, other] <= both[one, other] / 1000)
    return np.concatenate(found, 1), np.concatenate(same)
