import shutil

import pytest

from experiments.train import main
from experiments.training import dry_run

pytestmark = pytest.mark.xdist_group("use")

CHECKS = ("settings", "data", "batch", "weights", "memory", "step", "evaluation")


def _run(capsys, *words):
    """The status, and for each check its result and what was found."""
    short = ["--devices", "1", "--classes", "2", "--per-class", "4", "--dry-run"]
    status = main(["digits", *short, *map(str, words)])
    lines = [line for line in capsys.readouterr().out.splitlines() if "│" in line]
    cells = [[cell.strip() for cell in line.split("│")[1:-1]] for line in lines]
    return status, {
        check.split(" ")[0]: (result, found) for check, result, found in cells
    }


def test_all_is_tried_and_nothing_written(run, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, found = _run(capsys, "--data-dir", run.parent / "data", "--steps", 7200)
    assert status == 0
    assert tuple(found) == CHECKS
    assert {result for result, _ in found.values()} == {"ok"}
    assert "train 901 of 5 classes; test 896 of 5 classes" in found["data"][1]
    assert found["batch"][1].startswith("8 x 32 x 32 x 1;")
    assert "for 7,200" in found["step"][1]
    assert list(tmp_path.iterdir()) == []


def test_what_would_fail_is_told_and_ends_with_status_1(run, capsys, monkeypatch):
    monkeypatch.setattr(dry_run, "_limit", lambda devices: 1e6)
    status, found = _run(capsys, "--data-dir", run.parent / "data")
    assert status == 1
    assert [found[check][0] for check in CHECKS[4:]] == [
        *("failed", "not reached", "not reached")
    ]
    assert "GB of 0.00 GB" in found["memory"][1]


def test_missing_weights_are_told_before_anything_is_read_or_built(capsys):
    status, found = _run(capsys, "--data-dir", "nowhere", "--weights", "none.pth")
    assert (status, found["settings"][0]) == (1, "failed")
    assert "cannot read weights from none.pth: there is no such" in found["settings"][1]
    assert {found[check][0] for check in CHECKS[1:]} == {"not reached"}


def test_damaged_and_missing_data_are_told(photos, tmp_path, capsys):
    folder = shutil.copytree(photos, tmp_path / "photos")
    for file in folder.rglob("*.png"):
        file.write_bytes(file.read_bytes()[:-30])
    status, found = _run(capsys, "--dataset", f"folder:{folder}")
    assert status == 1
    assert found["data"][0] == "failed"
    assert "cannot read the image" in found["data"][1]
    status, found = _run(capsys, "--dataset", "cub", "--data-dir", tmp_path)
    assert (status, found["settings"][0], found["data"][0]) == (1, "ok", "failed")


def test_what_to_install_is_told_in_full(tmp_path, capsys):
    (tmp_path / "weights.pth").touch()
    places = ["--data-dir", str(tmp_path), "--manual-dir", str(tmp_path)]
    places += ["--weights", str(tmp_path / "weights.pth"), "--devices", "1"]
    assert main(["cub_proxy_anchor", *places, "--dry-run"]) == 1
    assert "'rankjax[tf]'" in capsys.readouterr().out
