"""What holds for every command: its help, its processes, its refusals."""

import os
import runpy
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pytest

from experiments import embed, evaluate, tables
from experiments.search.__main__ import main as search_main

ROOT = Path(__file__).parent.parent
MODULES = [
    ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__main__")
    for file in sorted((ROOT / "experiments").rglob("*.py"))
    if '__name__ == "__main__"' in file.read_text()
]


def source_of(module):
    file = ROOT / f"{module.replace('.', '/')}.py"
    return (file if file.exists() else file.with_suffix("") / "__main__.py").read_text()


@pytest.mark.parametrize("module", MODULES)
def test_help_is_printed_and_nothing_is_done(module, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(sys, "argv", [module, "--help"])
    monkeypatch.setattr(Path, "write_text", None)
    monkeypatch.setattr(subprocess.Popen, "__init__", None)
    monkeypatch.chdir(tmp_path)
    pages = (ROOT / page for page in tables.TABLES)
    results = [*pages, *(ROOT / "experiments" / "results").iterdir()]
    before = [file.stat().st_mtime_ns for file in results]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of modules imported before
        with pytest.raises(SystemExit) as ended:
            runpy.run_module(module, run_name="__main__", alter_sys=True)
    assert ended.value.code == 0
    said = capsys.readouterr()
    assert said.out.startswith("usage: ")
    assert said.err == ""
    assert [file.stat().st_mtime_ns for file in results] == before
    assert list(tmp_path.iterdir()) == []


# Of `experiments.search`, --json is no file; `experiments.evaluate` has other tests.
@pytest.mark.parametrize(
    "module",
    [
        each
        for each in MODULES
        if '"--json", type' in source_of(each).replace("\n", "").replace("  ", "")
    ],
)
def test_a_file_that_cannot_be_written_is_refused_before_the_work(
    module, monkeypatch, capsys, tmp_path
):
    for file, said in (
        (tmp_path / "nowhere" / "x.json", "in a folder that exists"),
        (tmp_path, "a file, got the folder"),
    ):
        monkeypatch.setattr(sys, "argv", [module, "--json", str(file)])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            with pytest.raises(SystemExit) as ended:
                runpy.run_module(module, run_name="__main__", alter_sys=True)
        assert ended.value.code == 2
        line = f"argument --json: the file must be {said}"
        assert line in capsys.readouterr().err


def test_the_users_folder_is_meant_where_shells_leave_its_sign(tmp_path):
    np.savez(tmp_path / "x.npz", embeddings=np.eye(4), labels=[0, 0, 1, 1])
    words = ["~/x.npz", "--json=~/y.json", "--no-clustering", "--samples", "0"]
    subprocess.run(
        [sys.executable, "-m", "experiments.evaluate", *words, "--data-dir", "~/data"],
        env=os.environ | {"HOME": str(tmp_path)},
        cwd=ROOT,
        check=True,
    )
    assert (tmp_path / "y.json").is_file()


@pytest.mark.parametrize("module", ["experiments.train", "experiments.data"])
def test_nothing_is_said_when_nobody_reads_what_is_printed(module):
    process = subprocess.Popen(
        [sys.executable, "-m", module, "--help"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    process.stdout.close()
    _, said = process.communicate()
    assert said == b""


def test_what_is_typed_is_read_before_slow_imports():
    code = (
        "import sys, experiments.training.command; "
        "slow = {'flax', 'optax', 'orbax', 'tensorflow_datasets', 'sklearn', "
        "'matplotlib', 'scipy.optimize'}; print(*slow & {*sys.modules})"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True
    )
    assert (ended.stdout.strip(), ended.returncode) == ("", 0), ended.stderr


def is_running(process: int) -> bool:
    stat = Path(f"/proc/{process}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"


@pytest.mark.skipif(sys.platform != "linux", reason="children outlive their parent")
@pytest.mark.parametrize("by", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_processes_end_with_the_one_that_started_them(by):
    code = (
        "import signal, subprocess, sys, time; "
        "from experiments.children import ends_with_us; "
        # A shell has what runs in its background ignore it.
        "signal.signal(signal.SIGINT, signal.default_int_handler); "
        "sleep = [sys.executable, '-c', 'print(1, flush=True); "
        "import time; time.sleep(100)']; "
        "child = subprocess.Popen(ends_with_us(sleep), stdout=subprocess.PIPE); "
        "child.stdout.readline(); print(child.pid, flush=True); time.sleep(100)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as parent:
        child = int(parent.stdout.readline())
        assert is_running(child)
        parent.send_signal(by)
        parent.wait()
    for _ in range(100):
        if not is_running(child):
            return
        time.sleep(0.05)
    os.kill(child, signal.SIGKILL)
    pytest.fail("the child goes on")


def test_options_may_stand_between_what_is_searched_and_the_queries(tmp_path, capsys):
    index = tmp_path / "index.npz"
    for words in (
        [str(index), "--k", "3", "query.jpg"],
        ["--k", "3", str(index), "query.jpg"],
        [str(index), "query.jpg", "--k", "3"],
    ):
        assert search_main(words) in (1, 2)
        assert str(index) in capsys.readouterr().err
    words = ["nowhere", "--out", str(tmp_path / "x.npz"), str(tmp_path)]
    assert embed.main(words) in (1, 2)
    assert "unrecognized" not in capsys.readouterr().err


@pytest.fixture
def few_rows(tmp_path):
    """Twelve rows, of which four are queries."""
    rng = np.random.default_rng(0)
    labels = np.arange(12) % 4
    file = tmp_path / "few.npz"
    embeddings = rng.normal(size=(12, 5)) + 3 * np.eye(5)[labels]
    np.savez(file, embeddings=embeddings, labels=labels, query=np.arange(12) < 4)
    return file


def test_few_rows_are_re_ranked_by_as_many_neighbours_as_there_are(few_rows, capsys):
    words = ["--rerank", "k-reciprocal", "--expand", "3", "--samples", "0"]
    assert evaluate.main([str(few_rows), *words, "--no-clustering"]) == 0
    assert "re-ranked" in capsys.readouterr().out
