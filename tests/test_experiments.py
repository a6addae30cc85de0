"""The commands, as a user meets them."""

import contextlib
import inspect
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import compiled_programs
import numpy as np
import pytest
from photos import make_photos

from experiments.killtest import final_state
from experiments.recipes import EXPERIMENTS
from experiments.runs import load_run
from experiments.train import default_run_dir, main
from experiments.training.check import check
from experiments.training.command import parse
from rankjax.errors import UsageError

# What is prepared for one of these tests serves the others of the same process.
pytestmark = pytest.mark.xdist_group("experiments")

ROOT = Path(__file__).parent.parent
FLAGS_OF_ONE_DEVICE = os.environ["XLA_FLAGS"].replace("count=8", "count=1")
BATCH = ["--classes", "5", "--per-class", "4"]
CROPS = ["digits", "--augmentation", "random_resized_crop", "--augmentation-options"]
SHORT = ["--classes", "6", "--per-class", "4", "--steps", "40", "--eval-every", "10"]
SHORT += ["--warmup-steps", "40", "--log-every", "2", "--devices", "1"]


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """An environment in which what one process has compiled, the next need not."""
    with compiled_programs.kept_in(tmp_path_factory.mktemp("compiled")) as environment:
        yield environment


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Four classes of six images, two to train on and two to test on."""
    return make_photos(tmp_path_factory.mktemp("photos"), 4, 6, train=2)


def start(environment, *arguments) -> subprocess.Popen[str]:
    """The command in a process of its own, warnings being errors."""
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-m", "experiments.train", *arguments],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(*arguments) -> str:
    """What the command printed, in this process and after it ended well."""
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        assert main(arguments) == 0
    return printed.getvalue()


def last_step(run_dir: Path) -> int:
    """The newest step that a run has logged, also while it is logging."""
    file = run_dir / "metrics.jsonl"
    lines = file.read_text().splitlines(keepends=True) if file.exists() else []
    return max((json.loads(x)["step"] for x in lines if x.endswith("\n")), default=0)


def wait_for_a_step_after(step, process, run_dir):
    while last_step(run_dir) <= step:
        assert process.poll() is None, process.communicate()
        time.sleep(0.005)


def everything(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def rows(run_dir: Path) -> list[dict[str, float]]:
    lines = (run_dir / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def trained_rows(run_dir: Path) -> list[dict[str, float]]:
    """Rows of training steps, without what no two runs share."""
    kept = [row for row in rows(run_dir) if "loss" in row]
    return [{k: v for k, v in row.items() if k != "images_per_second"} for row in kept]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, compiled):
    """Arguments without a run folder, a finished run, and what it printed."""
    folder = tmp_path_factory.mktemp("undisturbed")
    photos = make_photos(folder / "photos", 12, 6, train=6)
    arguments = ["--dataset", f"folder:{photos}", *SHORT]
    run_dir = folder / "run"
    return arguments, run_dir, finish(*arguments, "--run-dir", str(run_dir))


def test_a_run_leaves_all_its_results_in_its_folder(undisturbed):
    _, run_dir, printed = undisturbed
    files = everything(run_dir)
    assert printed.splitlines()[-1] == str(run_dir)
    assert {"config.json", "metrics.jsonl", "report.html", "summary.json"} <= set(files)
    assert (run_dir / "checkpoints" / "40").is_dir()
    assert list(run_dir.glob("figures/*.png"))
    assert list(run_dir.glob("tensorboard/events.*"))
    summary = json.loads(files["summary.json"])
    names = [
        *(f"recall_at_{k}" for k in (1, 2, 4, 8)),
        "mrr",
        "map_at_r",
        "r_precision",
        "map",
        "ndcg",
        "nmi",
    ]
    assert set(summary) == {"test", "raw_pixels", "untrained"}
    for who, figures in summary.items():
        # Clusters of pixels would take longer than all else.
        assert list(figures) == [
            name for name in names if (who, name) != ("raw_pixels", "nmi")
        ]
        assert all(0 <= value <= 1 for value in figures.values())
    config = json.loads(files["config.json"])
    assert config["dataset"].startswith("folder:")
    assert config["steps"] == 40
    first = files["report.html"].decode().partition("differ from the defaults")[2]
    first = first.partition("</details>")[0]
    assert '<th scope="row">steps</th><td>40</td>' in first
    assert '<th scope="row">seed</th>' not in first


def test_every_logged_step_has_one_row_with_its_own_learning_rate(undisturbed):
    _, run_dir, _ = undisturbed
    trained = trained_rows(run_dir)
    assert [row["step"] for row in trained] == list(range(2, 41, 2))
    learning_rate = EXPERIMENTS["glyphs"]().optimizer.learning_rate
    for row in trained:
        # Warm-up takes all 40 steps, and the first step has a rate of zero.
        rate = learning_rate * (row["step"] - 1) / 40
        assert row["learning_rate"] == pytest.approx(rate, rel=1e-5)
    evaluated = [row["step"] for row in rows(run_dir) if "training/nmi" in row]
    assert evaluated == [10, 20, 30, 40]


def test_a_finished_run_is_only_judged_again_and_comes_out_the_same(undisturbed):
    arguments, run_dir, printed = undisturbed
    before = everything(run_dir)
    assert finish(*arguments, "--run-dir", str(run_dir)) == printed
    after = everything(run_dir)
    new = {name for name in after if name not in before}
    assert all(name.startswith("tensorboard/") for name in new)
    changed = {name for name in before if after[name] != before[name]}
    assert changed == set()


def test_interrupted_and_killed_it_goes_on_to_the_same_bits(
    undisturbed, compiled, tmp_path
):
    arguments, expected, _ = undisturbed
    run_dir = tmp_path / "run"
    command = [*arguments, "--run-dir", str(run_dir)]

    process = start(compiled, *command)
    wait_for_a_step_after(0, process, run_dir)
    process.send_signal(signal.SIGINT)
    said = process.communicate()[1].splitlines()[-1]
    stopped_at = last_step(run_dir)
    assert process.returncode == 130
    assert said.startswith(
        f"stopped at step {stopped_at}, which is saved; go on with: "
    )
    assert said.endswith(f"python -m experiments.train {' '.join(command)}")
    assert 0 < stopped_at < 40

    process = start(compiled, *command)
    wait_for_a_step_after(stopped_at, process, run_dir)
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert not (run_dir / "summary.json").exists()

    finish(*command)
    assert final_state(run_dir) == final_state(expected)
    assert trained_rows(run_dir) == trained_rows(expected)
    results = ("summary.json", "config.json")
    assert [(run_dir / name).read_bytes() for name in results] == [
        (expected / name).read_bytes() for name in results
    ]


def refused(capfd, *arguments) -> tuple[int, str]:
    """Exit status and the one line that a command in this process ends with."""
    status = main(arguments)
    printed, said = capfd.readouterr()
    # A bar that has begun is on lines of its own.
    lines = [line for line in said.splitlines() if line and "|" not in line]
    assert printed == ""
    assert len(lines) == 1, said
    assert lines[0].startswith("error: ")
    return status, lines[0]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["glyfs"], "no experiment 'glyfs'; did you mean glyphs"),
        (["--batch-size=32"], "there is no --batch-size here; see --classes and --per"),
        (["list:a.csv"], "no experiment 'list:a.csv'; of images or features"),
        (["/"], "no experiment '/'; of images or features of your own, write --dat"),
        (["digits", "--loss", "n_pear"], "no loss 'n_pear'; did you mean n_pairs"),
        (["digits", "--dataset", "digit"], "no data set 'digit'; did you mean digits"),
        (
            ["digits", "--model", "convnett"],
            "no model 'convnett'; did you mean convnet",
        ),
        (["digits", "--similarity", "cosin"], "'cosin'; did you mean cosine"),
        (["digits", "--mining", "hardst"], "no miner 'hardst'; did you mean hardest"),
        (["digits", "--reduction", "meen"], "no reduction 'meen'; did you mean mean"),
        (["digits", "--augmentation", "afine"], "'afine'; did you mean affine"),
        (
            ["digits", "--augmentation-options", "padding=3"],
            "no option of affine 'padding'",
        ),
        (
            [*CROPS, "scale=(0,1)"],
            "a range of areas must be in (0, 1]",
        ),
        ([*CROPS, "scale=2"], "scale must be like (0.08, 1.0), got '2'"),
        (["digits", "--batches", "randon"], "no batches 'randon'; did you mean random"),
        (["digits", "--batches", "cross_camera"], "cross_camera need cameras, which"),
        (
            ["digits", "--short-side", "28"],
            "short_side must be at least image_size, 32",
        ),
        (
            ["digits", "--loss-options", "skale=2"],
            "no option of n_pairs 'skale'; did you mean scale",
        ),
        (["digits", "--per-class", "1"], "per_class must be at least 2, got 1"),
        (
            ["digits", "--classes", "3", "--per-class", "3"],
            "3 x 3 must be divisible by the number of devices, 8",
        ),
        (["digits", "--classes", "6", "--per-class", "4"], "must be at most 5"),
        (["digits", "--devices", "99"], "devices must be from 1 to 8"),
        (["digits", "--dataset", "folder:nowhere"], "there is no folder nowhere"),
        (["digits", "--dataset", "tfds:mnst"], "did you mean tfds:mnist"),
        (["digits", "--image-size", "0"], "image_size"),
    ],
)
def test_a_wrong_setting_is_one_line_and_writes_nothing(
    arguments, words, data_dir, tmp_path, capfd
):
    places = ["--data-dir", str(data_dir), "--run-dir", str(tmp_path / "run")]
    status, line = refused(capfd, *arguments, *places)
    assert status == 2
    assert words in line
    assert everything(tmp_path) == {}


def test_images_too_few_to_judge_by_are_refused(photos, tmp_path, capfd):
    for file in [next(photos.glob(f"test/class{i}/*.png")) for i in (2, 3)]:
        kept = tmp_path / "photos" / file.relative_to(photos)
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_bytes(file.read_bytes())
    (tmp_path / "photos" / "train").symlink_to(photos / "train")
    status, line = refused(
        capfd,
        *["digits", "--dataset", f"folder:{tmp_path / 'photos'}", "--classes", "2"],
        *["--per-class", "4", "--run-dir", str(tmp_path / "run")],
    )
    assert status == 2
    assert "must have two images of one class to test on, got 2 images of 2" in line
    assert not (tmp_path / "run").exists()


def test_a_single_class_to_train_on_is_refused_in_these_words(tmp_path, capfd):
    photos = make_photos(tmp_path / "photos", 2, 6)
    arguments = ["--dataset", f"folder:{photos}", "--steps", "2"]
    status, line = refused(capfd, *arguments, "--run-dir", str(tmp_path / "run"))
    assert status == 2
    assert "must have two classes to train on, got 1" in line


def photo_run(photos, run_dir) -> list[str]:
    return [
        *["digits", "--dataset", f"folder:{photos}", "--augmentation", "none"],
        *["--classes", "2", "--per-class", "4", "--steps", "4", "--eval-every", "2"],
        *["--log-every", "1", "--run-dir", str(run_dir)],
    ]


@pytest.mark.slow
def test_files_damaged_on_the_way_are_named_and_mended_runs_go_on(
    photos, tmp_path, capfd
):
    run_dir = tmp_path / "run"
    arguments = photo_run(photos, run_dir)
    image = sorted(photos.glob("train/*/*.png"))[-1]
    whole = image.read_bytes()
    image.write_bytes(whole[: len(whole) // 2])
    try:
        status, line = refused(capfd, *arguments)
    finally:
        image.write_bytes(whole)
    assert status == 1
    assert f"cannot read the image {image}" in line

    assert main(arguments) == 0
    assert capfd.readouterr().out.splitlines()[-1] == str(run_dir)

    # The same run with another setting, while the folder is whole.
    before = everything(run_dir)
    status, line = refused(capfd, *arguments, "--seed", "1")
    assert status == 2
    assert "holds a run of another config: seed 0 (here 1)" in line
    assert everything(run_dir) == before

    files = [p for p in (run_dir / "checkpoints" / "4").rglob("*") if p.is_file()]
    largest = max(files, key=lambda path: path.stat().st_size)
    largest.write_bytes(largest.read_bytes()[: largest.stat().st_size // 2])
    before = everything(run_dir)
    status, line = refused(capfd, *arguments)
    assert status == 1
    assert f"{run_dir / 'checkpoints' / '4'}: damaged" in line
    assert everything(run_dir) == before

    shutil.rmtree(run_dir / "checkpoints")
    assert main(arguments) == 0
    said = capfd.readouterr().err
    assert "was trained before and has no checkpoint to go on from" in said


@pytest.mark.slow
def test_a_run_that_damage_stopped_goes_on_without_the_damaged_image(
    photos, tmp_path, capfd
):
    run_dir, copied = tmp_path / "run", tmp_path / "photos"
    shutil.copytree(photos, copied)
    image = sorted(copied.glob("test/*/*.png"))[3]
    content = bytearray(image.read_bytes())
    content[len(content) // 2] ^= 255  # its header and its end are whole
    image.write_bytes(content)
    arguments = photo_run(copied, run_dir)
    assert main(arguments) == 1
    assert f"cannot read the image {image}" in capfd.readouterr().err
    trained = (run_dir / "metrics.jsonl").read_bytes()
    assert main([*arguments, "--on-damage", "skip"]) == 0
    assert (run_dir / "metrics.jsonl").read_bytes() == trained
    assert (run_dir / "report.html").exists()
    assert load_run(run_dir).config.data.on_damage == "skip"


def test_a_folder_that_cannot_be_written_is_one_line(photos, tmp_path, capfd):
    (tmp_path / "file").write_text("")
    status, line = refused(capfd, *photo_run(photos, tmp_path / "file"))
    assert status == 2
    assert f"run_dir must be a folder, got {tmp_path / 'file'}" in line


def test_an_unknown_flag_ends_with_status_2(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["digits", "--learning-rat", "1"])
    assert ended.value.code == 2
    assert "--learning-rate" in capsys.readouterr().err


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_a_named_experiment_can_run_and_says_how(name):
    config = EXPERIMENTS[name]()
    check(config, 1)
    if name.startswith("glyphs"):
        check(config, 8)
    documentation = inspect.getdoc(EXPERIMENTS[name])
    assert f"python -m experiments.train {name}" in documentation.splitlines()


def test_settings_that_differ_have_folders_that_differ():
    config = EXPERIMENTS["digits"]()
    folder = default_run_dir("digits", config)
    for place in (
        {"data_dir": Path("elsewhere")},
        {"manual_dir": Path("elsewhere")},
        {"devices": 1},
        {"wrapper": "shard_map"},
        {"hosts": "auto"},
        {"host_timeout": 5},
        {"on_damage": "skip"},
        {"check_images": "all"},
    ):
        elsewhere = config.replace(**place)
        assert default_run_dir("digits", elsewhere) == folder
    for change in (
        {"seed": 1},
        {"steps": 1},
        {"loss_options": ()},
        {"fold": 0},
        {"folds": 5},
        {"fit": "squash"},
        {"alpha": "black"},
        {"image_width": 64},
    ):
        changed = config.replace(**change)
        assert default_run_dir("digits", changed) != folder


@pytest.mark.slow
@pytest.mark.parametrize(("processes", "times"), [(1, 2), (2, 1)])
def test_a_run_killed_a_few_times_loses_nothing(compiled, data_dir, processes, times):
    command = [sys.executable, "-m", "experiments.killtest", "--times", str(times)]
    ended = subprocess.run(
        [*command, "--processes", str(processes), "--data-dir", str(data_dir)],
        cwd=ROOT,
        env=compiled | {"XLA_FLAGS": FLAGS_OF_ONE_DEVICE},
        capture_output=True,
        text=True,
        check=True,
    )
    lines = ended.stdout.splitlines()
    assert len(lines) == times + 1
    assert lines[-1].startswith(f"{times} kills (")
    assert lines[-1].endswith("), final weights bit-identical")


@pytest.mark.slow
def test_a_large_batch_run_resumes_with_its_memory_full_and_past_damage(
    data_dir, tmp_path, capfd
):
    settings = ["--norm", "group", "--dropout", "0.1", "--microbatch", "10"]
    settings += ["--memory", "50", "--memory-warmup", "2", "--memory-weight", "0.5"]
    settings += ["--precision", "bfloat16", "--remat", "--data-dir", str(data_dir)]
    steps = [
        *BATCH,
        "--steps",
        "14",
        "--eval-every",
        "5",
        "--log-every",
        "1",
        "--devices",
        "1",
    ]
    command = ["digits", *settings, *steps, "--profile", "2"]
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    finish(*command, "--run-dir", str(whole))
    assert list((whole / "trace").rglob("*.xplane.pb"))
    logged = [row for row in rows(whole) if "memory_loss" in row]
    assert [row["step"] for row in logged] == list(range(1, 15))
    assert all(np.isfinite(row["memory_loss"]) for row in logged)

    shutil.copytree(whole, cut)
    shutil.rmtree(cut / "checkpoints" / "14")
    (cut / "summary.json").unlink()
    largest = max(
        (p for p in (cut / "checkpoints" / "10" / "state").rglob("*") if p.is_file()),
        key=os.path.getsize,
    )
    largest.write_bytes(largest.read_bytes()[: largest.stat().st_size // 2])
    assert main([*command, "--run-dir", str(cut)]) == 1
    assert "damaged" in capfd.readouterr().err.splitlines()[-1]
    finish(*command, "--run-dir", str(cut), "--fall-back")
    assert final_state(cut) == final_state(whole)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--microbatch", "5"], "microbatch must divide the 24 images of a device"),
        (["--memory", "7"], "memory must be at least the batch, 24, or 0, got 7"),
        (
            ["--memory", "24", "--proxies-per-class", "1"],
            "memory must be 0 for loss ",
        ),
        (["--profile", "31"], "profile must be at most 30 in 40 steps"),
        (["--dropout", "1"], "dropout must be at least 0 and below 1, got 1.0"),
        (["--learning-rate", "inf"], "learning_rate must be finite, got inf"),
    ],
)
def test_settings_of_large_batches_that_cannot_be_meant_are_refused(arguments, words):
    with pytest.raises(UsageError, match=re.escape(words)):
        check(parse(["digits", *SHORT, *arguments])[1], devices=1)
