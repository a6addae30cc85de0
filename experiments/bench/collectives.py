"""What crosses between devices, read off compiled programs."""

import dataclasses
import math
import re
from collections import Counter

_COLLECTIVE = re.compile(
    r"= (.*?) (all-gather|all-reduce|reduce-scatter|all-to-all|collective-permute)"
    r"(-start)?\("
)
_ARRAY = re.compile(r"(pred|[a-z]+(\d+))[a-z0-9]*\[([\d,]*)\]")
_COMPUTATION = re.compile(r"(ENTRY )?%?([\w.-]+) \(.*\{$")
_CALLED = re.compile(
    r"\b(?:calls|to_apply|body|\w+_computations?)=\{?(%?[\w.-]+(?:, %?[\w.-]+\b(?!=))*)"
)
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"')


@dataclasses.dataclass(frozen=True)
class Traffic:
    """The collectives of one kind that a program runs.

    Attributes:
      count: how many.
      bytes: of their results on one device.
      per_turn: how many of them, counted once, are in a loop of which only the data
        tell how often it runs.
    """

    count: int
    bytes: int
    per_turn: int = 0

    def __str__(self) -> str:
        """For tables: '2: 1,024 B, 1 per turn'."""
        turns = f", {self.per_turn} per turn" if self.per_turn else ""
        return f"{self.count}: {self.bytes:,} B{turns}"


def collectives(text: str) -> dict[str, Traffic]:
    """The collectives of a compiled program by kind, in alphabetical order.

    Args:
      text: of the program, as `compiled.as_text()` has it. What is in a loop counts as
        often as the loop runs, if that is known; in a branch as if it were taken.
    """
    bodies = _computations(text)
    count: Counter[str] = Counter()
    size: Counter[str] = Counter()
    per_turn: Counter[str] = Counter()

    def visit(name: str, times: int, open_ended: bool) -> None:
        for line in bodies.get(name, ()):
            for result, kind, _ in _COLLECTIVE.findall(line):
                count[kind] += times
                size[kind] += times * sum(_bytes(*x) for x in _ARRAY.findall(result))
                per_turn[kind] += times * open_ended
            loop = " while(" in line
            trips = _TRIPS.search(line) if loop else None
            turns = int(trips[1]) if trips else 1
            for names in _CALLED.findall(line):
                for called in names.split(", "):
                    unknown = open_ended or (loop and trips is None)
                    visit(called.lstrip("%"), times * turns, unknown)

    visit("", 1, False)
    return {
        kind: Traffic(count[kind], size[kind], per_turn[kind]) for kind in sorted(count)
    }


def _computations(text: str) -> dict[str, list[str]]:
    """The lines of each computation by its name; that of the program has none."""
    found: dict[str, list[str]] = {"": []}
    name = ""
    for line in text.splitlines():
        start = _COMPUTATION.match(line)
        if start:
            name = "" if start[1] else start[2]
        found.setdefault(name, []).append(line)
    return found


def _bytes(_: str, bits: str, shape: str) -> int:
    items = math.prod(int(n) for n in shape.split(",") if n)
    return items * int(bits or 8) // 8  # a truth value takes a byte
