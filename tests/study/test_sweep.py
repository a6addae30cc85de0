"""Sweeps: the same data for every arm, figures as defined, files that go on."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from experiments.study import measures, records, sweep
from experiments.study.benches import digits, drawn
from experiments.study.measures import directions, shares
from experiments.study.studies import ARMS, SEARCH_SEEDS, SEEDS, STUDIES, Study
from experiments.study.sweep import main, run
from experiments.study.training import Arm, batches, first_params, network, train
from rankjax.errors import RunError
from rankjax.metrics import retrieval_metrics

TINY = dataclasses.replace(drawn(8, per_class=4), layers=(32, 8, 4))
ARM = Arm(
    "n_pairs",
    classes=4,
    numbers={"learning_rate": 1e-2, "scale": 4.0, "l2_weight": 0.0},
    searched={"learning_rate": (1e-3, 1e-1)},
)
STUDY = Study(
    *("tiny", lambda: TINY, {"a": ARM}, 0.1),
    trials=2,
    seeds=(7, 8),
    steps=4,
    every=2,
    curves=("recall",),
)


@pytest.mark.parametrize("collapsed", [False, True])
def test_figures_of_small_sets_are_those_of_the_library(collapsed):
    rng = np.random.default_rng(0)
    outputs = rng.normal(size=(6, 5, 3)).astype(np.float32)
    if collapsed:
        outputs[:3] = 1.0
    labels = np.arange(6).repeat(5)
    expected = retrieval_metrics(outputs.reshape(30, 3), labels)
    part = TINY.make(0, TINY.settings).test
    part = part._replace(
        inputs=outputs, labels=labels.reshape(6, 5), groups=np.zeros((6, 5), np.int32)
    )
    got = jax.jit(measures.test)(outputs, part)
    np.testing.assert_allclose(got["recall_at_1"], expected["recall_at_1"], rtol=1e-6)
    np.testing.assert_allclose(got["map_at_r"], expected["map_at_r"], rtol=1e-6)


def test_n_way_accuracy_and_cosine_and_rank_equal_slow_loops():
    outputs = np.random.default_rng(1).normal(size=(5, 3, 4)).astype(np.float32)
    unit = outputs / np.linalg.norm(outputs, axis=-1, keepdims=True)
    won = [
        [unit[i, 0] @ unit[i, 1] > unit[i, 0] @ unit[j, 1] for j in range(5) if j != i]
        for i in range(5)
    ]
    rows = unit.reshape(15, 4)
    cosines = [rows[i] @ rows[j] for i in range(15) for j in range(15) if i != j]
    share = np.linalg.svd(rows, compute_uv=False)
    share /= share.sum()
    got = jax.jit(measures.embeddings)(outputs)
    np.testing.assert_allclose(got["n_way"], np.mean(np.all(won, 1)), rtol=1e-6)
    np.testing.assert_allclose(got["one_way"], np.mean(won), rtol=1e-6)
    np.testing.assert_allclose(got["cosine"], np.mean(cosines), atol=1e-6)
    np.testing.assert_allclose(
        got["rank"], np.exp(-np.sum(share * np.log(share))), rtol=1e-4
    )


def test_seeds_are_paired_whatever_the_arm():
    one, other = TINY.make(3, TINY.settings), TINY.make(3, TINY.settings)
    jax.tree.map(np.testing.assert_array_equal, one, other)
    changed = dataclasses.replace(ARM, loss="angular", numbers={"learning_rate": 1.0})
    for a, b in zip(batches(ARM, one, 3, 5), batches(changed, one, 3, 5), strict=True):
        np.testing.assert_array_equal(a, b)
    assert (batches(ARM, one, 4, 5)[0] != batches(ARM, one, 3, 5)[0]).any()


def test_a_batch_has_distinct_rows_of_distinct_classes():
    data = TINY.make(0, TINY.settings)
    rows, labels = batches(ARM, data, 0, 50)
    for some, theirs in zip(rows, labels, strict=True):
        assert len(set(some)) == 8
        assert len(set(theirs)) == 4
        np.testing.assert_array_equal(theirs, some // 4)


def test_repeated_classes_have_their_own_labels_only_when_blind():
    data = TINY.make(0, TINY.settings)
    many = dataclasses.replace(ARM, classes=16)
    blind = dataclasses.replace(many, repeats="blind")
    aware = dataclasses.replace(many, repeats="aware")
    rows, labels = batches(blind, data, 0, 20)
    assert all(len(set(some)) == 16 for some in labels)
    same, true = batches(aware, data, 0, 20)
    np.testing.assert_array_equal(rows, same)
    np.testing.assert_array_equal(true, same // 4)
    with pytest.raises(ValueError, match="classes=16, and there are 8"):
        batches(many, data, 0, 1)


def test_noise_changes_that_share_of_training_labels_and_nothing_else():
    bench = drawn(64)
    clean = bench.make(0, bench.settings)
    noisy = bench.make(0, {**bench.settings, "noise": 0.3})
    np.testing.assert_array_equal(clean.train.inputs, noisy.train.inputs)
    assert (clean.train.labels == np.arange(64)[:, None]).all()
    share = np.mean(clean.train.labels != noisy.train.labels)
    assert 0.27 < share < 0.33
    jax.tree.map(np.testing.assert_array_equal, clean.test, noisy.test)


def test_networks_trained_together_are_those_trained_alone_step_by_step():
    cells = [{"seed": 1, "scale": 2.0}, {"seed": 2, "learning_rate": 0.05}]
    outcome = train(TINY, ARM, cells, steps=4, every=2)
    compute = ARM.objective()

    @jax.jit
    @jax.grad
    def gradient(params, inputs, labels, scale):
        out = network(params, inputs)
        out /= jnp.linalg.norm(out, axis=-1, keepdims=True)
        return compute(out, labels, params={"scale": scale})[0]

    for i, cell in enumerate(cells):
        data = TINY.make(cell["seed"], TINY.settings)
        rows, labels = batches(ARM, data, cell["seed"], 4)
        inputs = data.train.inputs.reshape(-1, 32)[rows]
        params = first_params(jax.random.key(i + 1), TINY.layers)
        adam = optax.adam(cell.get("learning_rate", 1e-2))
        moments = adam.init(params)
        for some, names in zip(inputs, labels, strict=True):
            slope = gradient(params, some, names, cell.get("scale", 4.0))
            update, moments = adam.update(slope, moments)
            params = optax.apply_updates(params, update)
        expected = measures.test(network(params, data.test.inputs), data.test)
        for name, apart in (("recall_at_1", 0.01), ("map_at_r", 5e-3)):
            assert abs(outcome.final[name][i] - expected[name]) < apart
        lengths = jnp.linalg.norm(network(params, data.validation.inputs), axis=-1)
        np.testing.assert_allclose(
            outcome.curves["norm"][i, -1], jnp.mean(lengths), rtol=1e-3
        )


def test_a_study_keeps_what_it_has_and_trains_what_changed(tmp_path, monkeypatch):
    said = []
    run(STUDY, tmp_path, said.append)
    result = records.load("tiny", tmp_path)
    record = result.arms["a"]
    assert len(said) == 1
    assert len(record.trials) == 2
    best = max(record.trials, key=lambda trial: trial["recall"])
    assert record.chosen[0]["learning_rate"] == best["learning_rate"]
    assert list(record.cells["seed"]) == [7, 8]
    assert record.curve("recall", seed=8).shape == (1, 3)
    assert list(result.steps) == [0, 2, 4]
    before = (tmp_path / "tiny.json").read_text()

    trained = []

    def forbidden(bench, arm, *args, **kwargs):
        trained.append(arm.loss)
        raise RuntimeError

    monkeypatch.setattr(sweep, "train", forbidden)
    run(STUDY, tmp_path, said.append)
    assert (tmp_path / "tiny.json").read_text() == before
    changed = dataclasses.replace(ARM, loss="n_pairs_ovo")
    both = dataclasses.replace(STUDY, arms={"a": ARM, "b": changed})
    with pytest.raises(RuntimeError):
        run(both, tmp_path, said.append)
    assert trained == ["n_pairs_ovo"]
    assert (tmp_path / "tiny.json").read_text() == before


def test_a_missing_or_damaged_result_names_the_command(tmp_path):
    with pytest.raises(RunError, match=r"experiments\.study\.sweep losses-modes"):
        records.load("losses-modes", tmp_path)
    (tmp_path / "tiny.json").write_text("{")
    with pytest.raises(RunError, match="damaged"):
        run(STUDY, tmp_path, print)


def test_unknown_names_in_cells_and_on_the_command_line_are_refused(capsys):
    with pytest.raises(ValueError, match="'margin'"):
        train(TINY, ARM, [{"seed": 0, "margin": 1.0}], steps=2, every=2)
    with pytest.raises(ValueError, match="multiple of every"):
        train(TINY, ARM, [{"seed": 0}], steps=3, every=2)
    assert main(["losses-mode"]) == 1
    assert "losses-modes" in capsys.readouterr().err
    assert main([]) == 0
    listed = capsys.readouterr().out
    assert all(name in listed for name in STUDIES)


def test_searches_are_of_equal_size_and_every_searched_number_exists():
    for name, arm in ARMS.items():
        assert set(arm.searched) <= set(arm.numbers), name
        assert len(sweep._trials(arm, 12)) == 12
        for trial in sweep._trials(arm, 12):
            for number, (low, high) in arm.searched.items():
                assert low <= trial[number] <= high
    assert not set(SEEDS) & set(SEARCH_SEEDS)
    assert len(SEEDS) >= 20


def test_digits_test_on_digits_that_they_do_not_train_on():
    data = digits().make(0, {"noise": 0.0})
    seen = {tuple(row) for row in data.train.inputs.reshape(-1, 64)}
    assert not seen & {tuple(row) for row in data.test.inputs.reshape(-1, 64)}
    assert not seen & {tuple(row) for row in data.validation.inputs.reshape(-1, 64)}


def test_directions_equal_a_loop_over_triplets():
    rng = np.random.default_rng(2)
    rows = rng.normal(size=(8, 3)).astype(np.float32)
    labels = np.array([0, 0, 0, 1, 1, 2, 2, 2])
    toward: dict[str, list[bool]] = {"triplet": [], "angular": []}
    out: dict[str, list[float]] = {"triplet": [], "angular": []}
    for a in range(8):
        mean = rows[labels == labels[a]].mean(0)
        for p in range(8):
            for n in range(8):
                if p == a or labels[p] != labels[a] or labels[n] == labels[a]:
                    continue
                x = rows[n] - mean
                centres = {"triplet": rows[a], "angular": (rows[a] + rows[p]) / 2}
                for rule, centre in centres.items():
                    step = rows[n] - centre
                    toward[rule].append(step @ (rows[p] - rows[n]) > 0)
                    out[rule].append(
                        step @ x / np.linalg.norm(step) / np.linalg.norm(x)
                    )
    told = jax.jit(directions)(rows, labels, None, None)
    for rule in toward:
        np.testing.assert_allclose(told[f"{rule}_toward"], np.mean(toward[rule]))
        np.testing.assert_allclose(told[f"{rule}_out"], np.mean(out[rule]), rtol=1e-4)


def test_shares_are_one_where_every_row_has_the_same_gradient():
    groups = jnp.asarray([0, 1, 1, 0, 1, 0])
    even = shares(None, None, groups, jnp.ones((6, 2)))
    assert even == {"wide_gradient": 1.0}
    only = shares(None, None, groups, jnp.where(groups[:, None] == 1, 2.0, 0.0))
    assert only == {"wide_gradient": 2.0}


def test_a_result_file_is_strict_json_of_four_digits(tmp_path):
    lists = records.rounded({"x": np.array([1 / 3, np.nan, np.inf])})
    assert json.loads(json.dumps(lists, allow_nan=False)) == {"x": [0.3333, None, None]}


@pytest.mark.parametrize("name", STUDIES)
def test_the_committed_file_is_that_of_the_study_and_holds_what_it_keeps(name):
    declared, result = STUDIES[name], records.load(name)
    stored = records.stored(records.RESULTS / f"{name}.json")
    about = sweep.described(declared, declared.bench())
    assert [*result.arms] == [*declared.arms]
    for arm, record in result.arms.items():
        settings = dataclasses.asdict(declared.arms[arm])
        asked = (about, declared.settings, declared.grid, settings)
        assert stored[arm]["digest"] == records.digest(*asked)
        assert {*record.final} == {"recall_at_1", *declared.final}
        assert {*record.curves} == {*declared.curves}
