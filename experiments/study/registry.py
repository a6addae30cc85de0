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


def find(name: str) -> Entry:
    """The figure of that name.

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
    entry = find(name)
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


@dataclass(frozen=True)
class Shown:
    """A figure and its caption, as notebooks show it.

    Attributes:
      entry: the figure.
      svg: its drawing.
    """

    entry: Entry
    svg: str

    def _repr_svg_(self) -> str:
        return self.svg

    def _repr_html_(self) -> str:
        svg = self.svg[self.svg.index("<svg") :]
        title, caption = html.escape(self.entry.title), html.escape(self.entry.caption)
        caption = re.sub(r"`([^`]+)`", r"<code>\1</code>", caption)
        caption = caption.replace("\n\n", "</p><p>")
        return (
            f'<figure style="margin:0;max-width:900px">{svg}'
            f"<figcaption><p><b>{title}.</b> {caption}</p></figcaption></figure>"
        )

    def __repr__(self) -> str:
        return f"{self.entry.title}\n\n{self.entry.caption}"


def show(name: str) -> Shown:
    """Draws a figure for a notebook.

    Raises:
      UsageError: there is no such figure.
      RunError: results that it reads are not there.
    """
    entry = find(name)
    drawn = entry.draw()
    with drawing.applied():
        return Shown(entry, drawing.as_svg(drawn))
