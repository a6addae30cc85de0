import numpy as np
import pytest
from PIL import Image

from experiments.data import main
from rankjax.data import CATALOGUE


def _save(path, image, kind="PNG", **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, kind, **options)


@pytest.fixture
def photos(tmp_path):
    """Four classes: photos of many kinds, one cut off, one class of one image."""
    folder = tmp_path / "photos"
    for i, name in enumerate(("train/a", "train/$b$", "test/c", "test/字")):
        for j in range(3):
            image = Image.new("RGB", (30 + 10 * j, 20), (60 * i, 90 * j, 0))
            _save(folder / name / f"{j}.png", image)
    a, b = folder / "train" / "a", folder / "train" / "$b$"
    _save(a / "cmyk.jpg", Image.new("CMYK", (30, 20)), "JPEG")
    _save(a / "grey.png", Image.new("L", (30, 20)))
    _save(a / "deep.png", Image.fromarray(np.zeros((20, 30), np.uint16)))
    frames = [Image.new("RGB", (30, 20), colour) for colour in ("red", "blue")]
    _save(a / "moves.gif", frames[0], "GIF", save_all=True, append_images=frames[1:])
    _save(a / "clear.png", Image.new("RGBA", (30, 20)))
    (b / "cut.png").write_bytes((b / "0.png").read_bytes()[:-20])
    (b / "empty.png").touch()
    _save(folder / "test" / "single" / "0.png", Image.new("RGB", (500, 20)))
    return folder


def _run(capsys, *arguments):
    status = main([str(each) for each in arguments])
    return status, *capsys.readouterr()


def test_what_is_in_a_data_set_is_counted_named_and_drawn(photos, tmp_path, capsys):
    sheet = tmp_path / "sheet.png"
    name = f"folder:{photos}"
    status, out, _ = _run(capsys, name, "--data-dir", tmp_path, "--sheet", sheet)
    assert status == 0
    cells = [[cell.strip() for cell in line.split("│")] for line in out.splitlines()]
    rows = [row[1:-1] for row in cells if len(row) > 2]
    # Split, images, classes, images of a class, classes of one image; width, height.
    assert rows[0][:5] == ["train", "13", "2", "5 / 6 / 8", "0"]
    assert rows[0][-2:] == ["30 / 30 / 50", "20 / 20 / 20"]
    assert rows[1][:5] == ["test", "7", "3", "1 / 3 / 3", "1"]
    assert rows[1][-2:] == ["30 / 40 / 500", "20 / 20 / 20"]
    assert rows[2] == ["train", "2", "1", "1", "1", "1", "1"]
    assert rows[3] == ["test", "0", "0", "0", "0", "0", "0"]
    assert f"alpha: {photos / 'train' / 'a' / 'clear.png'}" in out
    for file, reason in (("cut.png", "trunc"), ("empty.png", "it is empty")):
        (line,) = (line for line in out.splitlines() if file in line)
        assert line.startswith("damaged: ")
        assert reason in line
    with Image.open(sheet) as image:
        pixels = np.asarray(image.convert("RGB")).reshape(-1, 3)
    # Two images of class c, which is the third.
    for colour in ((120, 0, 0), (120, 90, 0)):
        assert (pixels == colour).all(1).sum() > 1000


def test_sheet_has_a_line_for_each_of_a_few_classes(tmp_path, capsys):
    for name in "abcd":
        _save(tmp_path / "in" / name / "0.png", Image.new("RGB", (9, 9), "red"))
    sheet = tmp_path / "sheet.png"
    assert _run(capsys, f"folder:{tmp_path / 'in'}", "--sheet", sheet)[0] == 0
    red = (np.asarray(Image.open(sheet).convert("RGB")) == (255, 0, 0)).all(-1).any(1)
    assert (np.diff(red.astype(int)) == 1).sum() == 4


def test_sheet_shows_what_the_network_gets_and_what_is_cut_off(tmp_path, capsys):
    wide = Image.new("RGB", (90, 30), (200, 0, 0))
    wide.paste((0, 0, 250), (30, 0, 60, 30))
    for name in ("a", "b"):
        _save(tmp_path / "in" / name / "0.png", wide)

    def areas(*words):
        sheet = tmp_path / f"{len(words)}.png"
        run = (f"folder:{tmp_path / 'in'}", "--sheet", sheet, *words)
        status, _, said = _run(capsys, *run)
        assert status == 0
        pixels = np.asarray(Image.open(sheet).convert("RGB")).astype(int)
        near = ((200, 0, 0), (0, 0, 250), (241, 191, 191))
        return [(abs(pixels - c).max(2) < 12).sum() for c in near], said

    (red, blue, dimmed), _ = areas("--fit", "crop")
    assert red < 0.02 * blue
    assert dimmed > 0.4 * blue
    (red, blue, dimmed), said = areas()
    assert "letterbox" in said
    assert red > 1.5 * blue
    assert dimmed == 0


def test_without_a_name_the_catalogue_is_listed(capsys):
    status, out, _ = _run(capsys)
    assert status == 0
    assert all(name in out for name in CATALOGUE)


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (["cup"], 2),
        (["sop"], 1),
        (["digits", "--image-size", "0"], 2),
        (["digits", "--image-width", "0"], 2),
        (["digits", "--image-width", "-3"], 2),
    ],
)
def test_what_cannot_be_had_is_one_line(words, status, tmp_path, capsys):
    found, _, errors = _run(capsys, *words, "--data-dir", tmp_path)
    assert found == status
    assert errors.startswith("error: ")
    assert errors.count("\n") == 1
