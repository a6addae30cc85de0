"""The benchmark of an accelerator runs to its end, whatever fails on the way."""

import json
from types import SimpleNamespace

import pytest

from experiments.bench import accelerator
from experiments.bench.accelerator import Sizes, bench


def test_what_fails_or_comes_too_late_is_a_row_with_its_reason(monkeypatch):
    def fails():
        raise RuntimeError("RESOURCE_EXHAUSTED: no memory\nmore")

    def first(_):
        yield {"what": "a"}, fails
        yield {"what": "b"}, lambda: {"wall_s": 1.0}

    clock = iter([0.0, 1.0, 2.0, 60.0])
    watch = SimpleNamespace(perf_counter=lambda: next(clock))
    monkeypatch.setattr(accelerator, "time", watch)
    monkeypatch.setattr(
        accelerator,
        "PARTS",
        {"one": first, "two": lambda _: [({"what": "c"}, fails)]},
    )
    rows = []
    bench(Sizes(tiny=True), 50, say=rows.append)
    assert rows == [
        {"part": "one", "what": "a", "note": "failed: RESOURCE_EXHAUSTED: no memory"},
        {"part": "one", "what": "b", "wall_s": 1.0},
        {
            "part": "two",
            "what": "c",
            "note": "not run: the time of this part was up",
        },
    ]


@pytest.mark.slow
def test_it_runs_on_a_cpu_and_a_cpu_equals_itself(tmp_path, capsys):
    file = tmp_path / "rows.json"
    assert accelerator.main(["--json", str(file), "--tiny", "--seconds", "3000"]) == 0
    rows = json.loads(file.read_text())
    assert len(capsys.readouterr().out.splitlines()) == len(rows)
    assert rows[0]["platform"] == "cpu"
    assert {row["part"] for row in rows[1:]} == set(accelerator.PARTS)
    for row in rows[1:]:
        if "pytorch" not in row["what"]:
            assert "failed" not in row.get("note", "")
        if row["part"] == "exactness":
            assert max(row["value_differs"], row["gradient_differs"]) < 1e-5
