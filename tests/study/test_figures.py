"""Figures are drawn alike each time, are readable, and show what their captions say."""

import dataclasses

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from experiments.bench import figures as benchmarks
from experiments.study import drawing, records, registry, statistics
from experiments.study.figures import FIGURES, show
from experiments.study.figures import __main__ as command
from experiments.study.figures.angles import A, P, angle_at, angle_step
from experiments.study.figures.bands import hardest, semi_hard
from experiments.study.figures.batches import (
    shared_gradient,
)
from experiments.study.figures.fields import ANCHOR, POSITIVE, field
from experiments.study.figures.training import at_best_rate
from rankjax.errors import RunError

# As many places as the figure has, or the losses would be compiled again.
GRID = np.stack(np.meshgrid(np.linspace(-1, 4, 14), np.linspace(-1, 3.9, 14)), -1)
GRID = GRID.reshape(-1, 2)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if place % 6 == 0 else pytest.mark.slow)
        for place, name in enumerate(FIGURES)
    ],
)
def test_a_figure_is_written_whole(name, tmp_path, monkeypatch):
    monkeypatch.setattr(statistics, "RESAMPLES", 100)
    svg, png, txt = files = registry.write(name, tmp_path)
    assert [file.suffix for file in files] == [".svg", ".png", ".txt"]
    assert "<text" in svg.read_text()
    assert png.read_bytes().startswith(b"\x89PNG")
    assert txt.read_text() == f"{FIGURES[name].title}\n\n{FIGURES[name].caption}\n"
    assert {*tmp_path.iterdir()} == {*files}  # nothing temporary is left


@pytest.mark.parametrize("name", ["triplet_bands", "seed_spread", "claim_variation"])
def test_a_figure_is_alike_twice(name, monkeypatch):
    monkeypatch.setattr(statistics, "RESAMPLES", 100)
    assert show(name).svg() == show(name).svg()


def test_every_figure_has_a_name_of_its_own_and_a_caption():
    drawn = [entry.draw for entry in FIGURES.values()]
    assert len({entry.title for entry in FIGURES.values()}) == len(set(drawn)) >= 20
    assert all(len(entry.caption) > 150 for entry in FIGURES.values())


def luminance(colour):
    c = np.array(to_rgb(colour))
    linear = np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)
    return linear @ [0.2126, 0.7152, 0.0722]


def contrast(one, other):
    """That of WCAG 2, from 1 to 21."""
    low, high = sorted(luminance(colour) for colour in (one, other))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("page", drawing.PAGES)
def test_text_and_lines_stand_out_from_both_pages(page):
    assert contrast(drawing.TEXT, page) >= 4
    assert min(contrast(colour, page) for colour in drawing.SERIES) >= 3
    for kind in (drawing.LINES, drawing.MARKERS):  # to tell series apart without colour
        assert len(set(kind)) == len(drawing.SERIES)


def test_show_gives_notebooks_the_drawing_and_the_caption():
    shown = show("gradient_fields")
    page = shown._repr_html_()
    assert page.count("<svg") == 1
    assert "<?xml" not in page
    assert "rankjax.losses.triplet_loss" in page
    assert "Schroff" in repr(shown)


def test_the_command_lists_draws_and_names_what_is_wrong(tmp_path, capsys, monkeypatch):
    assert command.main([]) == 0
    assert all(name in capsys.readouterr().out.split() for name in ["triplet_bands"])
    out = str(tmp_path / "deep" / "er")
    assert command.main(["triplet_gradient", "--out", out]) == 0
    assert capsys.readouterr().out.count(out) == 3
    assert command.main(["triplet_band", "--out", out]) == 2
    assert "triplet_bands" in capsys.readouterr().err
    monkeypatch.setattr(benchmarks, "RESULTS", tmp_path)
    names = ["batch_memory", "triplet_gradient"]
    assert command.main([*names, "--out", out]) == 1
    assert "experiments.bench.losses" in capsys.readouterr().err
    assert (tmp_path / "deep" / "er" / "triplet_gradient.png").exists()
    (tmp_path / "bench-losses.json").write_text("{")
    with pytest.raises(RunError, match="cannot read"):
        FIGURES["batch_memory"].draw()
    with pytest.raises(dataclasses.FrozenInstanceError):
        FIGURES["batch_memory"].name = "other"


def parallel(steps, directions):
    """Whether each step that is not zero has its direction."""
    lengths = np.linalg.norm(steps, axis=1) * np.linalg.norm(directions, axis=1)
    some = lengths > 1e-6
    cosine = np.sum(steps * directions, 1)[some] / lengths[some]
    return some.any() and np.allclose(cosine, 1, atol=1e-4)


def test_fields_point_away_from_the_anchor_the_middle_and_the_anchors_direction():
    middle = (ANCHOR + POSITIVE) / 2
    assert parallel(field("Triplet", GRID), GRID - ANCHOR)
    assert parallel(field("Angular hinge, 45°", GRID), GRID - middle)
    assert parallel(field("N-pairs", GRID), np.broadcast_to(-ANCHOR, GRID.shape))


def test_hard_mining_draws_modes_together_and_semi_hard_does_not():
    to_other = np.repeat([1.0, -1.0], 6)
    assert (hardest()[0][:, 0] * to_other > 0).all()
    assert (semi_hard()[0][:, 0] * to_other <= 1e-6).all()
    assert hardest()[1][6:12].sum() == 1
    assert semi_hard()[1].any()
    assert not semi_hard()[1][6:].any()


def test_the_step_on_the_angle_itself_leaves_anchor_and_positive():
    # Its product with a - n is -y |n - a|^2 times a positive number, above the line.
    for n in ([-1.55, 1.0], [-3.0, 0.1], [0.2, 0.4], [1.1, 2.0]):
        step = angle_step(n)
        assert step @ (A - n) < 0
        assert step @ (P - n) < 0
        assert angle_at(n + 1e-2 * step) < angle_at(n)


def test_triplets_give_the_wide_class_more_of_the_gradient_than_the_hinge_of_angles():
    triplet, angular = (
        shared_gradient(name)[1] for name in ("triplet", "angular_hinge")
    )
    assert triplet.sum() == pytest.approx(1)
    assert triplet[1] > angular[1] > 0.5


def test_the_rate_that_validates_best_is_what_is_judged():
    cells = [(seed, rate) for rate in (0.1, 0.2, 0.3) for seed in (1, 0)]
    validated = [0.5, 0.5, 0.9, 0.8, np.nan, 0.99]
    tested = [0.9, 0.9, 0.1, 0.2, 0.7, 0.7]
    names = "seed", "learning_rate"
    columns = dict(zip(names, np.transpose(cells), strict=True))
    final = {"last_recall": np.array(validated), "recall_at_1": np.array(tested)}
    record = records.Record({}, [], [], columns, final, {}, 0.0)
    assert at_best_rate(record).tolist() == [0.2, 0.1]


def test_figures_of_sweeps_name_the_command_that_is_missing(tmp_path, monkeypatch):
    monkeypatch.setattr(records, "RESULTS", tmp_path)
    for name in ("seed_spread", "label_noise", "batch_size"):
        with pytest.raises(
            RunError, match=r"python -m experiments\.study\.sweep \w+-modes"
        ):
            FIGURES[name].draw()
