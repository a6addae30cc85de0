"""What an experiment becomes when parts of it are replaced, or its data."""

import contextlib
import dataclasses
import io
import json
import re
import shlex
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import pytest
import without_report
from flax import nnx
from photos import make_photos
from PIL import Image

from experiments.recipes import EXPERIMENTS
from experiments.train import default_run_dir, main
from experiments.training import start
from experiments.training.check import check
from experiments.training.choices import build_batches
from experiments.training.command import parse
from experiments.training.fitting import fit_batch, fit_to_choices, fit_to_data
from experiments.training.images import load_fitted
from experiments.training.validation import check_evaluation
from rankjax import losses
from rankjax.data import Split, load
from rankjax.errors import UsageError
from rankjax.models import Staged
from rankjax.registry import info_of
from rankjax.train import Checkpoints

# Beside the triplet loss, which trains in `finished`: with proxies, and with views.
FAST = {"proxy_anchor", "vic_reg"}
GUIDED = {name for name, loss in losses.LOSSES.items() if loss.info.guided}


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Eight classes of six images, of which half are trained on."""
    return make_photos(tmp_path_factory.mktemp("data") / "photos", 8, 6)


@pytest.fixture(scope="module")
def guide(photos):
    """A file of what another model makes of them, some by paths from its folder."""
    files = sorted(photos.rglob("*.png"))
    paths = [
        str(x if i % 2 else x.relative_to(photos.parent)) for i, x in enumerate(files)
    ]
    embeddings = np.random.default_rng(0).normal(size=(len(files), 5))
    file = photos.parent / "guide.npz"
    np.savez(file, embeddings=embeddings, paths=paths)
    return file


@pytest.fixture(scope="module")
def triplets(photos):
    """A list in which each image to train on has a positive and a negative."""
    lines = ["path,label,split,positive,negative"]
    for i in range(8):
        split = "train" if i < 4 else "test"
        for j in range(6):
            near = f"photos/class{i}/{(j + 1) % 6}.png"
            others = f"{near},photos/class{(i + 1) % 4}/{j}.png" if i < 4 else ","
            lines.append(f"photos/class{i}/{j}.png,class{i},{split},{others}")
    file = photos.parent / "triplets.csv"
    file.write_text("\n".join(lines))
    return file


class Linear(nnx.Module):
    """A network that compiles at once."""

    def __init__(self, rngs, channels):
        self.layer = nnx.Linear(16 * channels, 64, rngs=rngs)
        self.backbone = Staged()  # without parameters

    def __call__(self, images):
        rows = images[:, ::8, ::8].reshape(len(images), -1) / 255
        rows = self.layer(rows)
        return rows / jax.numpy.linalg.norm(rows, axis=1, keepdims=True)


def train(*words):
    """The exit status of a run that trains a linear map and draws no report."""

    def network(model, *, channels, rngs, **ignored):
        return Linear(rngs, channels)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(start, "network", network)
        return without_report.main([*words, "--devices", "1"])


class Finished(NamedTuple):
    """A run of the triplet loss on eight classes of two images as typed."""

    photos: Path
    words: list[str]
    path: Path
    printed: str
    said: str
    report: Any


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder, reports = tmp_path_factory.mktemp("finished"), []
    photos, run = make_photos(folder / "photos", 8, 2), folder / "run"
    words = ["--dataset", f"folder:{photos}", "--loss", "triplet", "--steps", "2"]
    words += ["--run-dir", str(run)]
    with (
        pytest.MonkeyPatch.context() as patch,
        contextlib.redirect_stdout(io.StringIO()) as printed,
        contextlib.redirect_stderr(io.StringIO()) as said,
    ):
        patch.setattr(without_report, "ignore", lambda _, given: reports.append(given))
        assert train(*words) == 0
    (report,) = reports
    return Finished(photos, words, run, printed.getvalue(), said.getvalue(), report)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(x, marks=[] if x in FAST else pytest.mark.slow)
        for x in losses.LOSSES
    ],
)
def test_every_loss_trains_as_typed(name, photos, guide, tmp_path):
    words = ["--dataset", f"folder:{photos}", "--loss", name, "--steps", "2"]
    words += ["--guide", str(guide)] if name in GUIDED else []
    words += ["--log-every", "1", "--run-dir", str(tmp_path / "run")]
    assert train(*words) == 0
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    rows = [row for row in map(json.loads, lines) if "loss" in row]
    assert [row["step"] for row in rows] == [1, 2]
    assert all(np.isfinite(row["loss"]) for row in rows)


def test_a_list_of_triplets_trains_with_a_guide(triplets, guide, tmp_path):
    words = ["--dataset", f"list:{triplets}", "--loss", "nt_xent", "--symmetric"]
    words += ["--guide", str(guide), "--mining", "likely_true_negatives"]
    words += ["--mining-options", "by=guide", "margin=0.1", "--steps", "2"]
    words += ["--run-dir", str(tmp_path / "run"), "--log-every", "1"]
    assert train(*words) == 0
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    rows = [row for row in map(json.loads, lines) if "loss" in row]
    assert all(np.isfinite(row["loss"]) for row in rows)
    assert len(rows) == 2


def test_the_guide_of_an_image_is_its_own(triplets, guide):
    words = ["--dataset", f"list:{triplets}", "--loss", "margin_mse"]
    _, config, typed = parse([*words, "--guide", str(guide)])
    train = load_fitted(config, typed, 1, 1)[1].train
    with np.load(guide) as arrays:
        rows = [Path(path).parts[-2:] for path in arrays["paths"].tolist()]
        of = dict(zip(rows, arrays["embeddings"].astype(np.float32), strict=True))
    for part in (train, train.partners):
        names = [Path(part.images.name(i)).parts[-2:] for i in range(len(part.images))]
        np.testing.assert_array_equal(part.guide, [of[name] for name in names])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--dataset folder:{photos} --symmetric", "symmetric needs images with a pos"),
        ("--dataset list:{list} --loss proxy_nca", "proxies and partners exclude each"),
        ("--dataset list:{list} --memory 500", "memory and partners exclude each oth"),
        ("--dataset list:{list} --loss vic_reg", "loss vic_reg.*negatives must be N"),
        ("--loss margin_mse", "loss margin_mse needs --guide FILE, what another mo"),
        ("--loss margin_mse --guide nowhere", "guide: there is no file nowhere"),
        (
            "--guide {guide}",
            "guide is given, and neither this loss nor mining reads it",
        ),
        (
            "--guide {guide} --loss margin_mse --memory 500",
            "memory and guide exclude each other: give no guide, or a loss without mem",
        ),
        (
            "--dataset digits --guide {guide} --loss margin_mse",
            r"guide .* must have all [\d,]+ images for training, .* are missing: digit",
        ),
        ("--mining-options by=guide", "no option of all 'by'"),
        (
            "--shard-classes",
            "shard_classes needs one proxy a class, got n_pairs with 0",
        ),
        (
            "--loss arc_face --shard-classes --wrapper pmap",
            "shard_classes goes with the wrapper jit, got pmap",
        ),
        (
            "--loss proxy_nca --class-share 0.1",
            "class_share must be 1 for loss proxy_nc",
        ),
        (
            "--loss arc_face --class-share 0",
            "class_share must be above 0 and at most 1",
        ),
    ],
)
def test_partners_guides_and_shares_that_do_not_fit_are_refused(
    words, message, photos, triplets, guide, data_dir
):
    places = {"photos": photos, "list": triplets, "guide": guide}
    _, config, typed = parse(words.format(**places).split())
    with pytest.raises(UsageError, match=message):
        load_fitted(config.replace(data_dir=data_dir), typed, 1, 1)


@pytest.mark.parametrize("experiment", ["glyphs", "cub_proxy_anchor"])
@pytest.mark.parametrize("name", losses.LOSSES)
def test_settings_of_any_experiment_fit_any_loss(experiment, name, guide):
    own = EXPERIMENTS[experiment]()
    config = fit_to_choices(own, own.replace(loss=name), {"loss"})
    if name in GUIDED:
        config = config.replace(guide=guide)
    if experiment == "glyphs":
        check(config, 1)
    if name != own.loss.name:
        assert config.loss.loss_options == ()
    kind = info_of(losses.LOSSES[name]).batch
    assert bool(config.loss.proxies_per_class) == (kind == "proxies")
    least = {"classes": 4, "large": 4, "proxies": 1}.get(kind, 2)
    assert config.batch.per_class >= least
    assert own.batch.size() / 2 < config.batch.size() <= own.batch.size()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--loss", "triplet", "--classes", "9"], {"classes": 9, "per_class": 4}),
        (["--loss", "triplet", "--per-class", "2"], {"classes": 64, "per_class": 2}),
        (["--loss", "n_pairs"], {"loss_options": ("scale=16",)}),
        (
            ["--loss", "n_pairs_ovo", "--loss-options", "scale=3"],
            {"loss_options": ("scale=3",)},
        ),
        (
            ["--loss=soft_triple", "--loss-options", "centers=4"],
            {"proxies_per_class": 4},
        ),
        (["cub_reality_check", "--augmentation", "none"], {"augmentation_options": ()}),
        (
            ["cub_proxy_anchor", "--model", "convnet", "--image-size", "32"],
            {"weights": None, "norm": "batch", "pooling": "default", "short_side": 37},
        ),
        (["market1501_trinet", "--image-size", "128"], {"image_width": 64}),
        (["omniglot_small", "--dataset", "cub"], {"manual_dir": None}),
        (["fine_tune_lite0"], {"norm": "batch", "backbone_learning_rate": 1.0}),
        (["fine_tune_lite0", "--weights", "x.pth"], {"norm": "frozen"}),
        (["fine_tune_lite0", "--norm", "frozen"], {"norm": "frozen"}),
    ],
)
def test_what_belonged_to_a_replaced_part_goes_and_what_was_typed_stays(
    words, expected
):
    config = parse(words)[1].flat()
    assert {name: config[name] for name in expected} == expected


def test_commands_that_the_documentation_prints_are_read_as_typed():
    root = Path(__file__).parent.parent
    found = []
    for page in (root / "README.md", *(root / "notebooks").glob("*.md")):
        for line in re.findall(r"experiments\.train ([^`\n&#\"[]*)", page.read_text()):
            words = shlex.split(re.sub(r"\$\w+", "0", line).replace("NAME", "glyphs"))
            typed = parse(words)[2]
            flags = {word[2:].replace("-", "_") for word in words if word[:2] == "--"}
            assert typed == flags
            found.append(line)
    assert found


def test_proxies_that_are_not_the_centres_of_the_loss_are_refused():
    words = ["--loss", "soft_triple", "--proxies-per-class", "3"]
    message = "proxies_per_class must be 10, the centers of loss soft_triple, got 3"
    with pytest.raises(UsageError, match=message):
        check(parse(words)[1], 1)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_an_experiment_that_nobody_changed_is_what_it_says(name):
    own, (_, config, typed) = EXPERIMENTS[name](), parse([name])
    assert typed == frozenset()
    if name != "fine_tune_lite0":  # which is of weights that must be named
        assert config == own


def split_of(counts):
    labels = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
    return Split(None, labels, tuple(map(str, range(len(counts)))))


@pytest.mark.parametrize(
    ("words", "counts", "devices", "expected"),
    [
        ([], [12] * 15, 1, (15, 2)),
        (["--loss", "triplet"], [12] * 15, 1, (15, 4)),
        (["--loss", "triplet"], [3] * 15, 1, (15, 3)),
        (["--loss", "triplet"], [12] * 15, 8, (14, 4)),
        (["digits"], [6] * 3, 1, (3, 6)),
        ([], [1] * 5 + [2] * 4, 1, (4, 2)),
        ([], [12] * 3, 8, (2, 4)),
        ([], [20] * 100, 3, (63, 2)),
        (["--batches", "random"], [12] * 3, 1, (18, 2)),
        (["cub_proxy_anchor"], [12] * 3, 8, (32, 1)),
    ],
)
def test_a_batch_shrinks_to_what_data_and_devices_can_give(
    words, counts, devices, expected
):
    split = split_of(counts)
    _, config, typed = parse(words)
    fitted = fit_batch(config, typed, devices=devices, hosts=1, split=split)
    assert (fitted.batch.classes, fitted.batch.per_class) == expected
    check(fitted, devices)
    build_batches(fitted.batch, split, 0)


def test_images_of_one_class_are_refused_by_its_name_and_not_by_settings(tmp_path):
    photos = make_photos(tmp_path / "photos", 3, 4, train=2)
    for path in [*(photos / "train/class1").iterdir()][1:]:
        path.unlink()
    _, config, typed = parse(["--dataset", f"folder:{photos}", "--image-size", "16"])
    with pytest.raises(
        UsageError, match=r"two classes of two or more images .*, got class0: give more"
    ):
        load_fitted(config, typed, 1, 1)


def test_a_batch_that_was_typed_does_not_shrink():
    _, config, typed = parse(["--classes", "16"])
    fitted = fit_batch(config, typed, devices=1, hosts=1, split=split_of([12] * 15))
    assert fitted.batch.classes == 16
    with pytest.raises(UsageError, match=r"classes must be at most 15, .* got 16"):
        build_batches(fitted.batch, split_of([12] * 15), 0)


def test_microbatches_divide_a_batch_that_became_smaller():
    _, config, typed = parse(["glyphs_large_batch", "--classes", "15"])
    fitted = fit_batch(config, typed, devices=1, hosts=1)
    assert fitted.batch.microbatch == 0
    _, config, typed = parse(["glyphs_large_batch", "--classes", "60"])
    fitted = fit_batch(config, typed, devices=1, hosts=1)
    assert fitted.batch.microbatch == 240
    check(fitted, 1)


def test_settings_that_were_fitted_are_said_in_one_line(finished):
    lines = [x for x in finished.said.splitlines() if x and "|" not in x]
    assert lines == [
        "settings that fit triplet and the 8 training images of 4 classes of "
        f"folder:{finished.photos}: loss_options none instead of scale=16, "
        "classes 4 instead of 64, warmup_steps 0 instead of 100"
    ]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        # 72 images in batches of 12 x 2 and 72 x 1: an epoch is of 3 steps, and of 1.
        ([], {"steps": 600, "eval_every": 100, "warmup_steps": 40}),
        (["--memory", "64"], {"steps": 600, "memory_warmup": 400}),
        (["--steps", "1000"], {"steps": 1000, "eval_every": 250, "warmup_steps": 100}),
        (["--eval-every", "7"], {"steps": 600, "eval_every": 7}),
        (
            ["sop_proxy_anchor"],
            {
                "steps": 200,
                "train_blocks": ("none", "3:all"),
                "decay_every": 67,
                "eval_every": 7,
            },
        ),
        (["digits"], {"steps": 200, "eval_every": 50}),
    ],
)
def test_a_few_photos_are_seen_two_hundred_times_at_most(words, expected):
    _, config, typed = parse(words)
    images = np.empty((72, 32, 32, 3), np.uint8)
    split = dataclasses.replace(split_of([6] * 12), images=images)
    config = fit_batch(config, typed, devices=1, hosts=1, split=split)
    config = fit_to_data(config, typed, split)
    found = config.flat()
    assert {name: found[name] for name in expected} == expected


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("--steps 30 --memory 200", {"warmup_steps": 2, "memory_warmup": 15}),
        ("--steps 30", {"warmup_steps": 2, "memory_warmup": 1000}),
        ("--steps 100 --warmup-steps 200", {"warmup_steps": 200}),
        ("--steps 101", {"warmup_steps": 100}),
        ("digits --memory 200", {"warmup_steps": 100, "memory_warmup": 100}),
    ],
)
def test_warm_ups_end_before_the_steps_do(words, expected):
    config = parse(words.split())[1]
    found = config.flat()
    assert {name: found[name] for name in expected} == expected
    check(config, 1)


def test_a_memory_that_would_take_no_part_is_refused():
    words = ["--memory", "128", "--memory-warmup", "30", "--steps"]
    check(parse([*words, "31"])[1], 1)
    with pytest.raises(
        UsageError, match=r"memory_warmup must be below steps, 30, .* 30$"
    ):
        check(parse([*words, "30"])[1], 1)


def test_classes_that_no_batch_can_have_are_counted_and_named(tmp_path, capsys):
    for i in range(12):
        place = tmp_path / f"c{i:02d}"
        place.mkdir()
        for j in range(1 if i % 2 else 3):
            Image.new("RGB", (16, 16), (i, j, 0)).save(place / f"{j}.png")
    for words, said in (([], True), (["--batches", "random"], False)):
        _, config, typed = parse(["--dataset", f"folder:{tmp_path}", *words])
        train = load_fitted(config, typed, 1, 1)[1].train
        alone = [name for name in train.class_names if int(name[1:]) % 2]
        line = (
            f"left out of the batches of folder:{tmp_path}: {len(alone)} classes of "
            f"one image: {', '.join(alone)}\n"
        )
        assert (line in capsys.readouterr().err) == said


def test_a_guide_that_has_an_image_twice_must_agree_with_itself(
    photos, guide, tmp_path
):
    words = ["--dataset", f"folder:{photos}", "--loss", "similarity_distillation"]
    with np.load(guide) as arrays:
        rows, paths = arrays["embeddings"], arrays["paths"]
    paths = np.array([str(guide.parent / path) for path in paths.tolist()])
    for moved in (0, 1):
        file = tmp_path / f"{moved}.npz"
        both = np.concatenate([rows, rows + moved])
        np.savez(file, embeddings=both, paths=np.concatenate([paths, paths]))
        _, config, typed = parse([*words, "--guide", str(file)])
        if not moved:
            load_fitted(config, typed, 1, 1)
            continue
        with pytest.raises(UsageError, match=f"has {paths[0]} twice, with embedd"):
            load_fitted(config, typed, 1, 1)


def test_a_memory_and_parts_are_held_against_the_batch_that_fits_the_data(photos):
    words = ["--dataset", f"folder:{photos}", "--image-size", "16"]
    _, config, typed = parse([*words, "--memory", "24", "--microbatch", "2"])
    size = load_fitted(config, typed, 1, 1)[0].batch.size()
    assert size <= 24
    _, config, typed = parse([*words, "--memory", "3"])
    with pytest.raises(UsageError, match=f"at least the batch, {size}, or 0, got 3"):
        load_fitted(config, typed, 1, 1)


def test_a_selection_as_mining_is_told_how_it_is_chosen():
    _, config, typed = parse(["--loss", "triplet", "--mining", "semi_hard"])
    with pytest.raises(UsageError, match="--loss-options selection=semi_hard"):
        check(fit_batch(config, typed, devices=1, hosts=1), 1)


@pytest.mark.parametrize("loss", ["mag_face", "ada_face"])
def test_losses_that_read_lengths_get_rows_of_any_length(loss):
    assert not parse(["--loss", loss])[1].model.normalize
    assert parse(["--loss", loss, "--normalize"])[1].model.normalize
    assert parse(["--loss", "arc_face"])[1].model.normalize


def test_queries_that_find_nothing_are_refused_before_training(tmp_path):
    for place in ("train/a", "train/b", "query/c", "gallery/d", "gallery/e"):
        (tmp_path / place).mkdir(parents=True)
        for number in range(2):
            Image.new("RGB", (16, 16)).save(tmp_path / place / f"{number}.png")
    data = load(f"folder:{tmp_path}", data_dir=tmp_path, image_size=16)
    with pytest.raises(UsageError, match="a query whose class is in the gallery"):
        check_evaluation(data)


@pytest.mark.parametrize("words", ["--train-blocks none", "--lora 4"])
def test_blocks_without_weights_are_not_frozen(words):
    with pytest.raises(UsageError, match="without weights they are random; give --we"):
        parse(["cub_proxy_anchor", "--weights", "None", *words.split()])


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_takes_a_folder_of_a_few_photos(name, tmp_path):
    photos = make_photos(tmp_path / "photos", 6, 4)
    words = [name, "--dataset", f"folder:{photos}", "--weights", "None"]
    _, config, typed = parse(words)
    fitted, data = load_fitted(config, typed, 1, 1)
    check_evaluation(data)
    build_batches(fitted.batch, data.train, 0)


def test_greyscale_images_are_shown_to_weights_in_three_channels(data_dir):
    words = ["cub_proxy_anchor", "--dataset", "digits", "--data-dir", str(data_dir)]
    _, config, typed = parse(words)
    assert load_fitted(config, typed, 1, 1)[0].model.grey_as_rgb


@pytest.mark.parametrize(
    ("classes", "name", "chooses"),
    [(6, "training", False), (20, "validation", False), (96, "validation", True)],
)
def test_a_step_is_called_the_best_only_by_enough_unseen_classes(
    classes, name, chooses, tmp_path
):
    photos = make_photos(tmp_path / "photos", classes + 2, 3, train=classes)
    words = ["--dataset", f"folder:{photos}", "--steps", "3", "--eval-every", "1"]
    words += ["--classes", "4", "--run-dir", str(tmp_path / "run")]
    assert train(*words, "--learning-rate", "1") == 0
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    key = f"{name}/recall_at_1"
    recalls = {row["step"]: row[key] for row in rows if key in row}
    assert list(recalls) == [1, 2, 3]
    assert (
        not any(k.startswith("validation/") for row in rows for k in row)
        or name == "validation"
    )
    expected = max(recalls, key=lambda step: (recalls[step], step)) if chooses else 3
    with Checkpoints(tmp_path / "run" / "checkpoints", read_only=True) as checkpoints:
        assert checkpoints.best_step() == expected


def test_more_neighbours_than_there_are_images_are_left_out(finished):
    summary = json.loads((finished.path / "summary.json").read_text())
    assert {"recall_at_1", "recall_at_2", "recall_at_4"} <= summary["test"].keys()
    assert "recall_at_8" not in summary["test"]


def test_a_run_is_called_after_data_that_are_not_the_experiment_s():
    def called(*words):
        name, config, _ = parse(words)
        return re.sub("-[0-9a-f]{8}$", "", str(default_run_dir(name, config)))

    assert called() == "runs/glyphs"
    assert called("glyphs_hard") == "runs/glyphs_hard"
    assert called("--dataset", "folder:../my photos/") == "runs/my-photos"
    assert called("--dataset", "list:a/shoes.csv") == "runs/shoes"
    assert called("--dataset", "glyphs/pose") == "runs/glyphs-pose"
    assert called("cub_proxy_anchor", "--dataset", "cars") == "runs/cars"


def test_the_command_ends_with_its_result_and_two_paths(finished):
    run, printed = finished.path, finished.printed
    summary = json.loads((run / "summary.json").read_text())
    assert "Recall@1" in printed
    assert "MAP@R" in printed
    for who, title in (
        ("test", "Trained"),
        ("untrained", "Before this training"),
        ("raw_pixels", "Raw pixels"),
    ):
        line = next(x for x in printed.splitlines() if title in x)
        for figure in ("recall_at_1", "map_at_r"):
            assert f"{summary[who][figure]:.3f}" in line
    assert printed.splitlines()[-2:] == [f"report: {run / 'report.html'}", str(run)]
    assert printed.count(str(run)) == 2


def test_a_report_names_the_data_and_the_loss_and_how_to_train_it(finished):
    dataset = f"folder:{finished.photos}"
    assert finished.report["title"] == f"{dataset}, triplet"
    command = finished.report["command"]
    expected = f"python -m experiments.train glyphs --dataset {dataset} "
    assert command.startswith(expected)
    assert {"dataset", "loss", "steps"} <= finished.report["changed"]
    assert "learning_rate" not in finished.report["changed"]  # as --help has it
    again = parse(command.split()[3:])[1]
    assert again == parse([*finished.words, "--devices", "1"])[1]
    config = json.loads((finished.path / "config.json").read_text())
    assert config["classes"] == 4


def test_a_path_without_its_kind_says_what_to_write(photos, tmp_path, capsys):
    listed, persons = tmp_path / "list.csv", tmp_path / "persons"
    listed.write_text("path,label\n")
    (persons / "bounding_box_train").mkdir(parents=True)
    kinds = {photos: "folder", listed: "list", persons: "reid"}
    for path, kind in kinds.items():
        wrong = [f"{other}:" for other in ("folder", "list", "reid") if other != kind]
        wrong = [w for w in wrong if (path, w) != (photos, "reid:")]
        for before in ["", *wrong]:
            assert main(["--dataset", f"{before}{path}"]) == 2
            error = capsys.readouterr().err.splitlines()[-1]
            assert error.endswith(f"write {kind}:{path}")
    archive = tmp_path / "photos.zip"
    archive.touch()
    for name in (archive, f"folder:{archive}"):
        assert main(["--dataset", str(name)]) == 2
        error = capsys.readouterr().err.splitlines()[-1]
        assert error.endswith("a file named .csv, .parquet or .npz")
