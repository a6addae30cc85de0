"""Result files of sweeps: one JSON file each, whole at any time."""

import dataclasses
import functools
import hashlib
import json
import subprocess
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from rankjax.errors import RunError
from rankjax.files import write_atomic

RESULTS = Path(__file__).parents[1] / "results" / "sweeps"
_PACKAGES = ("jax", "jaxlib", "numpy", "optax")


BENCHES: Mapping[str, str] = {
    "modes": "drawn classes",
    "glyphs": "glyphs",
    "cases": "glyphs, both cases a class",
    "digits": "digits",
}
"""How benches are called in tables and figures, by the ends of sweeps' names."""

BOTH = ("modes", "glyphs")
"""The benches of most sweeps."""

ARM_NAMES = {
    "contrastive": "contrastive",
    "triplet_random": "random triplets",
    "triplet_all": "all triplets",
    "triplet_semi_hard": "semi-hard triplets",
    "triplet_hard": "hardest triplets",
    "triplet_hard_pairs": "hardest triplets, pairs",
    "triplet_easy_positive": "easy-positive triplets",
    "n_pairs_ovo": "N-pairs, one vs one",
    "n_pairs": "N-pairs",
    "n_pairs_lengths": "N-pairs, lengths free",
    "angular": "angular",
    "n_pairs_angular": "N-pairs + angular",
}
"""How the arms of `studies.ARMS` are called in figures."""


@dataclasses.dataclass(frozen=True)
class Record:
    """What became of an arm, as read from a file.

    Attributes:
      settings: of the arm, and its search space.
      chosen: by the search: bench settings that it was made for, numbers, and the mean
        Recall@1 on the validation classes.
      trials: every trial of the search, likewise.
      cells: [n] by name: seeds, and whatever differs between cells.
      final: [n] by name, on the test classes.
      curves: [n, evaluation] by name; may be empty.
      seconds: CPU time of one step of one cell.
    """

    settings: dict[str, Any]
    chosen: list[dict[str, float]]
    trials: list[dict[str, float]]
    cells: dict[str, np.ndarray]
    final: dict[str, np.ndarray]
    curves: dict[str, np.ndarray]
    seconds: float

    def where(self, **cells: float) -> np.ndarray:
        """[n] mask of the cells that have these values."""
        mask = np.ones(len(self.cells["seed"]), bool)
        for name, value in cells.items():
            mask &= np.isclose(self.cells[name], value)
        return mask

    def values(self, figure: str, **cells: float) -> np.ndarray:
        """A final figure of the cells that have these values, in order of seeds."""
        return self.final[figure][self._by_seed(cells)]

    def over(
        self, number: str, figure: str, **cells: float
    ) -> tuple[np.ndarray, np.ndarray]:
        """The values [n] that a number of cells takes, and a final figure [seed, n]."""
        taken = np.unique(self.cells[number])
        found = [self.values(figure, **{number: x}, **cells) for x in taken]
        return taken, np.stack(found, 1)

    def curve(self, figure: str, **cells: float) -> np.ndarray:
        """[seed, evaluation] of the cells that have these values."""
        return self.curves[figure][self._by_seed(cells)]

    def _by_seed(self, cells: Mapping[str, float]) -> np.ndarray:
        some = np.flatnonzero(self.where(**cells))
        return some[np.argsort(self.cells["seed"][some], kind="stable")]


@dataclasses.dataclass(frozen=True)
class Result:
    """A sweep's file: what was asked for, and a record for each arm.

    Attributes:
      study: its settings, versions and commit.
      arms: by name.
    """

    study: dict[str, Any]
    arms: dict[str, Record]

    def gap(
        self, one: str, other: str, figure: str = "recall_at_1", **cells: float
    ) -> np.ndarray:
        """A final figure of one arm minus that of another, [seeds]; see `values`."""
        ours, theirs = (self.arms[n].values(figure, **cells) for n in (one, other))
        return ours - theirs

    @property
    def steps(self) -> np.ndarray:
        """At which step each evaluation of a curve was made."""
        every = self.study["every"]
        return np.arange(self.study["steps"] // every + 1) * every


def load(name: str, folder: Path | None = None) -> Result:
    """Reads a sweep's file.

    Raises:
      RunError: it is missing or damaged; names the command that makes it.
    """
    path = (folder or RESULTS) / f"{name}.json"
    try:
        content = json.loads(path.read_text())
        arms = {
            arm: Record(
                settings=record["settings"],
                chosen=record["chosen"],
                trials=record["trials"],
                cells={k: np.asarray(v) for k, v in record["cells"].items()},
                final=_arrays(record["final"]),
                curves=_arrays(record["curves"]),
                seconds=record["seconds"],
            )
            for arm, record in content["arms"].items()
        }
        return Result(content["study"], arms)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(
            f"cannot read {path} ({error}); "
            f"python -m experiments.study.sweep {name} makes it"
        ) from error


def stored(path: Path) -> dict[str, Any]:
    """The file as it is; arms by name, none if there is no such file."""
    try:
        return json.loads(path.read_text())["arms"]
    except FileNotFoundError:
        return {}
    except (ValueError, KeyError) as error:
        raise RunError(f"{path} is damaged ({error}); move it away") from error


def save(path: Path, study: Mapping[str, Any], arms: Mapping[str, Any]) -> None:
    """Writes a file, an arm a line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    about = {
        **study,
        "commit": _commit(),
        "versions": {p: version(p) for p in _PACKAGES},
    }
    plain = functools.partial(json.dumps, separators=(",", ":"))
    lines = ",\n".join(f"{plain(name)}:{plain(arm)}" for name, arm in arms.items())
    write_atomic(path, f'{{"study":{plain(about)},\n"arms":{{\n{lines}\n}}}}\n')


def rounded(arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Arrays as lists of few digits; what is not finite becomes null."""

    def plain(x: Any) -> Any:
        if isinstance(x, list):
            return [plain(y) for y in x]
        return float(f"{x:.4g}") if np.isfinite(x) else None

    return {name: plain(np.asarray(values).tolist()) for name, values in arrays.items()}


def digest(*parts: Any) -> str:
    """Of settings: an arm with another digest is trained again."""
    text = json.dumps(parts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _arrays(lists: Mapping[str, Sequence[Any]]) -> dict[str, np.ndarray]:
    return {name: np.asarray(values, float) for name, values in lists.items()}


def _commit() -> str:
    try:
        command = ["git", "describe", "--always", "--dirty"]
        here = Path(__file__).parent
        return subprocess.run(
            command, cwd=here, capture_output=True, text=True, check=True
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
