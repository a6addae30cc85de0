"""Figures by name, and what can be done with one."""

import html
import inspect
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure

from experiments.study import drawing
from rankjax.errors import unknown_name
from rankjax.files import write_atomic

Draw = Callable[[], Figure]


@dataclass(frozen=True)
class Entry:
    """A figure.

    Attributes:
      name: of its files.
      title: one line.
      caption: what is shown, how it was computed, and its source.
      draw: makes it.
    """

    name: str
    title: str
    caption: str
    draw: Draw

    def svg(self) -> str:
        """The drawing."""
        drawn = self.draw()
        with drawing.applied():
            return drawing.as_svg(drawn)

    def _repr_html_(self) -> str:
        """The figure and its caption, as notebooks show it."""
        svg = self.svg()
        title, caption = html.escape(self.title), html.escape(self.caption)
        caption = re.sub(r"`([^`]+)`", r"<code>\1</code>", caption)
        caption = caption.replace("\n\n", "</p><p>")
        return (
            f'<figure style="margin:0;max-width:900px">{svg[svg.index("<svg") :]}'
            f"<figcaption><p><b>{title}.</b> {caption}</p></figcaption></figure>"
        )

    def __repr__(self) -> str:
        return f"{self.title}\n\n{self.caption}"


FIGURES: dict[str, Entry] = {}
"""Every figure by its name."""


def figure(*, sweeps: Sequence[str] = ()) -> Callable[[Draw], Draw]:
    """Lists a figure. Its docstring is its title, an empty line, and its caption.

    Args:
      sweeps: that it reads, which the caption names.
    """

    def listed(draw: Draw) -> Draw:
        def styled() -> Figure:
            with drawing.applied():
                drawn = draw()
                # Once, for all formats: laying out takes longer than drawing.
                drawn.draw_without_rendering()
                drawn.set_layout_engine("none")
                return drawn

        title, _, text = (inspect.getdoc(draw) or "").partition("\n\n")
        parts = [" ".join(part.split()) for part in text.split("\n\n")]
        if sweeps:
            files = ", ".join(f"{name}.json" for name in sweeps)
            parts.append(
                f"Read from {files} in experiments/results/sweeps, which `python -m "
                f"experiments.study.sweep {' '.join(sweeps)}` writes."
            )
        name = draw.__name__
        FIGURES[name] = Entry(name, title.rstrip("."), "\n\n".join(parts), styled)
        return styled

    return listed


def show(name: str) -> Entry:
    """The figure of that name, which a notebook draws.

    Raises:
      UsageError: there is none.
    """
    if name not in FIGURES:
        raise unknown_name("figure", name, [*FIGURES])
    return FIGURES[name]


def write(name: str, folder: Path) -> list[Path]:
    """Writes NAME.svg, NAME.png and NAME.txt, the caption; each whole or not at all.

    Args:
      name: of a figure.
      folder: where the files go; it is made if need be.

    Raises:
      UsageError: there is no such figure.
      RunError: results that it reads are not there.
      OSError: the folder cannot be written.
    """
    entry = show(name)
    drawn = entry.draw()
    with drawing.applied():
        contents: dict[str, bytes | str] = {
            "svg": drawing.as_svg(drawn),
            "png": drawing.as_png(drawn),
            "txt": f"{entry.title}\n\n{entry.caption}\n",
        }
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / f"{name}.{kind}" for kind in contents]
    for file, content in zip(files, contents.values(), strict=True):
        write_atomic(file, content)
    return files
