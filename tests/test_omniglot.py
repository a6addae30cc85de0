"""The one-shot task of Omniglot."""

import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from experiments import omniglot
from rankjax.data.archives import Archives

SHARED = Path(__file__).parents[2] / "shared/data"


def _drawing(box):
    image = Image.new("1", (105, 105), 1)
    ImageDraw.Draw(image).rectangle(box, fill=0)
    content = io.BytesIO()
    image.save(content, "PNG")
    return content.getvalue()


def test_drawings_are_cut_to_their_ink_wherever_it_stands_and_however_large_it_is():
    cuts = [
        np.asarray(omniglot.cut(_drawing(box)), int)
        for box in ((10, 10, 49, 29), (50, 70, 89, 89), (5, 20, 84, 59))
    ]
    for cut in cuts:
        rows, columns = np.nonzero(cut > 127)
        # Of the square, 1 / 1.2 is ink across, and half as much down.
        assert np.ptp(columns) + 1 == pytest.approx(105 / 1.2, abs=2)
        assert np.ptp(rows) + 1 == pytest.approx(105 / 2.4, abs=2)
        assert (rows.mean(), columns.mean()) == pytest.approx((52, 52), abs=1)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """An archive of two runs of three drawings, in the original layout."""
    folder = tmp_path_factory.mktemp("archives")
    with zipfile.ZipFile(folder / "all_runs.zip", "w") as archive:
        for run in ("run01", "run02"):
            lines = [
                f"{run}/test/item0{i}.png {run}/training/class0{1 + i % 3}.png"
                for i in (1, 2, 3)
            ]
            archive.writestr(f"{run}/class_labels.txt", "\n".join([*lines, ""]))
    return Archives(folder)


def test_a_drawing_is_wrong_where_another_class_of_its_own_run_is_nearer(
    runs, tmp_path
):
    classes = omniglot.answers(runs)
    assert classes["run01/test/item01.png"] == "run01/training/class02.png"
    basis = np.eye(6, dtype=np.float32)
    paths, rows = [], []
    for r, run in enumerate(("run01", "run02")):
        for c in (1, 2, 3):
            paths.append(f"/x/{run}/0_training_class0{c}.png")
            rows.append(basis[c - 1])
        for i in (1, 2, 3):
            true = i % 3
            paths.append(f"/x/{run}/0_test_item0{i}.png")
            # All of the first run are right; of the second, the first item is wrong.
            rows.append(basis[(true + (r and i == 1)) % 3] + 0.1 * basis[true])
    np.savez(tmp_path / "x.npz", embeddings=np.array(rows), paths=np.array(paths))
    assert omniglot.wrong_of_runs(tmp_path / "x.npz", classes) == [0, 1]


def test_the_mean_of_views_decides_where_they_are_asked_for(runs, tmp_path):
    basis = np.eye(3, dtype=np.float32)
    paths, rows = [], []
    for run in ("run01", "run02"):
        for c in (1, 2, 3):
            for view in (0, 1, 2):
                paths += [f"/x/{run}/{view}_training_class0{c}.png"]
                paths += [f"/x/{run}/{view}_test_item0{c}.png"]
                # The first view of each item is of a wrong class, the others are right.
                rows += [basis[c - 1], basis[(c + (view == 0)) % 3]]
    np.savez(tmp_path / "x.npz", embeddings=np.array(rows), paths=np.array(paths))
    classes = omniglot.answers(runs)
    assert omniglot.wrong_of_runs(tmp_path / "x.npz", classes) == [3, 3]
    assert omniglot.wrong_of_runs(tmp_path / "x.npz", classes, views=3) == [0, 0]


def test_archives_that_are_missing_are_named(tmp_path, capsys):
    words = ["--manual-dir", str(tmp_path), "--json", str(tmp_path / "x.json")]
    with pytest.raises(SystemExit):
        omniglot.main(words)
    assert "--manual-dir must have all_runs.zip" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.skipif(not SHARED.exists(), reason="needs Omniglot's archives")
def test_a_network_beats_chance_and_what_is_done_is_not_done_again(tmp_path):
    for folder in ("omniglot_small", "omniglot_one_shot"):
        for file in (SHARED / folder).glob("*.zip"):
            (tmp_path / file.name).symlink_to(file)
    figures = tmp_path / "x.json"
    words = ["--manual-dir", str(tmp_path), "--json", str(figures), "--seeds", "1"]
    words += ["--set", "small1", "--losses", "n_pairs", "--steps", "60"]
    assert omniglot.main(words) == 0
    (row,) = rows = json.loads(figures.read_text())
    assert row["error"] == sum(row["wrong"]) / 400 < 0.6  # chance is 0.95
    assert omniglot.main(words) == 0
    assert json.loads(figures.read_text()) == rows
