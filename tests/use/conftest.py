"""A trained run, images of it in folders, and their embeddings."""

from pathlib import Path

import numpy as np
import pytest
import without_report
from PIL import Image

from experiments import embed
from rankjax.data import load


@pytest.fixture(scope="session")
def run(tmp_path_factory) -> Path:
    """The folder of a run of five steps on digits."""
    folder = tmp_path_factory.mktemp("run")
    where = ["--run-dir", str(folder / "run"), "--data-dir", str(folder / "data")]
    batch = ["--classes", "5", "--per-class", "4", "--devices", "1"]
    words = ["digits", *batch, "--steps", "5", "--eval-every", "5", *where]
    assert without_report.main(words) == 0
    return folder / "run"


@pytest.fixture(scope="session")
def photos(tmp_path_factory, run) -> Path:
    """Digits of five classes, ten of each, in folders whose names are not ASCII."""
    folder = tmp_path_factory.mktemp("photos")
    data = load("digits", data_dir=run.parent / "data").test
    for label in range(5):
        rows = np.flatnonzero(data.labels == label)[:10]
        for row, pixels in zip(rows, data.images.read(rows), strict=True):
            file = folder / f"数字{label}" / f"{row:03d} ü.png"
            file.parent.mkdir(exist_ok=True)
            Image.fromarray(pixels[..., 0]).save(file)
    return folder


@pytest.fixture(scope="session")
def index(tmp_path_factory, run, photos) -> Path:
    """What `experiments.embed` makes of the photos."""
    file = tmp_path_factory.mktemp("index") / "photos.npz"
    assert embed.main([str(run), str(photos), "--out", str(file)]) == 0
    return file
