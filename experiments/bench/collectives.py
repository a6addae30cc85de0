"""What crosses between devices: read off compiled programs, and how long it takes."""

import dataclasses
import math
import re
from collections import Counter

_COLLECTIVE = re.compile(
    r"= (.*?) (all-gather|all-reduce|reduce-scatter|all-to-all|collective-permute)"
    r"(-start)?\("
)
_ARRAY = re.compile(r"(pred|[a-z]+(\d+))[a-z0-9]*\[([\d,]*)\]")


@dataclasses.dataclass(frozen=True)
class Traffic:
    """The collectives of one kind: how many, and bytes of their results on a device."""

    count: int
    bytes: int

    def __str__(self) -> str:
        """For tables: '2: 1,024 B'."""
        return f"{self.count}: {self.bytes:,} B"


def collectives(text: str) -> dict[str, Traffic]:
    """The collectives of a compiled program by kind, in alphabetical order.

    Args:
      text: of the program, as `compiled.as_text()` has it. What is inside a loop
        counts once.
    """
    count: Counter[str] = Counter()
    size: Counter[str] = Counter()
    for result, kind, _ in _COLLECTIVE.findall(text):
        count[kind] += 1
        size[kind] += sum(_bytes(*array) for array in _ARRAY.findall(result))
    return {kind: Traffic(count[kind], size[kind]) for kind in sorted(count)}


def _bytes(_: str, bits: str, shape: str) -> int:
    items = math.prod(int(n) for n in shape.split(",") if n)
    return items * int(bits or 8) // 8  # a truth value takes a byte
