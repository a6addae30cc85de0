import errno
import functools
import itertools
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
from flax import nnx
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from rankjax.errors import RunError
from rankjax.train.checkpoint import Checkpoints


class Net(nnx.Module):
    def __init__(self, *, rngs: nnx.Rngs) -> None:
        self.norm = nnx.BatchNorm(8, rngs=rngs)
        self.linear = nnx.Linear(8, 256, param_dtype=jnp.bfloat16, rngs=rngs)


@functools.cache
def trained_state(seed: int = 0):
    """Parameters, batch statistics, AdamW's moments and a step; no two leaves alike."""
    _, params, rest = nnx.split(Net(rngs=nnx.Rngs(0)), nnx.Param, ...)
    moments = optax.adamw(1e-3).init(params)
    state = {"params": params, "rest": rest, "moments": moments, "step": jnp.int32(0)}
    rng = np.random.default_rng(seed)
    return jax.tree.map(
        lambda x: jnp.asarray(rng.normal(scale=100, size=x.shape), x.dtype), state
    )


def assert_same(got, expected):
    assert jax.tree.structure(got) == jax.tree.structure(expected)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes()


def steps_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_restored_state_is_bit_exact_in_a_new_process_or_the_same(tmp_path):
    state = trained_state()
    with Checkpoints(tmp_path / "new" / "run") as checkpoints:
        checkpoints.save(7, state, score=0.5)
        assert_same(checkpoints.restore(7, state), state)
    with Checkpoints(tmp_path / "new" / "run") as checkpoints:
        abstract = jax.eval_shape(lambda: state)
        assert_same(checkpoints.restore(7, abstract), state)


RESTORE_WITHOUT_RANKJAX = """
import sys, numpy as np, orbax.checkpoint as ocp

state = ocp.StandardCheckpointer().restore(sys.argv[1])
assert "rankjax" not in sys.modules
np.save(sys.argv[2], state["params"]["linear"]["kernel"].astype(np.float32))
assert state["moments"]["0"]["mu"]["norm"]["scale"].shape == (8,)
"""


def test_orbax_alone_restores_parameters_by_their_names(tmp_path):
    state = trained_state()
    with Checkpoints(tmp_path / "run") as checkpoints:
        checkpoints.save(7, state, score=0.5)
    words = [str(tmp_path / "run" / "7" / "state"), str(tmp_path / "kernel.npy")]
    command = [sys.executable, "-c", RESTORE_WITHOUT_RANKJAX, *words]
    subprocess.run(command, check=True, cwd=tmp_path)
    expected = np.asarray(state["params"]["linear"]["kernel"][...], np.float32)
    np.testing.assert_array_equal(np.load(tmp_path / "kernel.npy"), expected)


def test_only_the_latest_two_and_the_best_are_kept_also_after_reopening(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        assert (checkpoints.latest_step(), checkpoints.best_step()) == (None, None)
        for step, score in [(1, 0.1), (2, 0.9), (3, 0.2), (4, 0.3)]:
            checkpoints.save(step, {"x": jnp.ones(3)}, score=score)
        checkpoints.wait()
        assert steps_in(tmp_path) == ["2", "3", "4"]
    with Checkpoints(tmp_path) as checkpoints:
        assert (checkpoints.latest_step(), checkpoints.best_step()) == (4, 2)
        checkpoints.save(5, {"x": jnp.ones(3)}, score=0.9)
        checkpoints.wait()
        assert checkpoints.best_step() == 5
        assert steps_in(tmp_path) == ["4", "5"]


def test_donating_right_after_a_save_or_a_restore_corrupts_nothing(tmp_path):
    scramble = jax.jit(lambda s: jax.tree.map(lambda x: x * 0 - 1, s), donate_argnums=0)
    state = {"x": jax.random.normal(jax.random.key(0), (300_000,))}
    expected = {"x": np.array(state["x"])}
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, state, score=0.0)
        jax.block_until_ready(scramble(state))
        restored = checkpoints.restore(1, expected)
        assert_same(restored, expected)
        jax.block_until_ready(scramble(restored))
        assert_same(checkpoints.restore(1, expected), expected)


@pytest.mark.parametrize(("saved_on", "restored_on"), [(8, 8), (8, 1), (1, 8)])
def test_replicated_state_goes_from_any_to_any_number_of_devices(
    tmp_path, saved_on, restored_on
):
    def replicated(devices):
        mesh = Mesh(np.array(jax.devices()[:devices]), ("batch",))
        return NamedSharding(mesh, PartitionSpec())

    host = jax.tree.map(np.asarray, trained_state())
    with Checkpoints(tmp_path) as checkpoints:
        saved = jax.device_put(host, replicated(saved_on))
        checkpoints.save(1, saved, score=0.0)
        like = jax.device_put(host, replicated(restored_on))
        restored = checkpoints.restore(1, like)
    assert_same(restored, host)
    for leaf in jax.tree.leaves(restored):
        assert leaf.sharding == replicated(restored_on)


def test_a_state_returned_by_pmap_is_saved_once(tmp_path):
    double = jax.pmap(lambda x, _: 2 * x, in_axes=(None, 0), out_axes=None)
    x = np.arange(5.0, dtype=np.float32)
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, {"x": double(x, np.zeros(8))}, score=0.0)
        assert_same(checkpoints.restore(1, {"x": x}), {"x": 2 * x})


def delete(file: Path) -> None:
    file.unlink()


def truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


@pytest.fixture(scope="module")
def two_checkpoints(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    with Checkpoints(folder) as checkpoints:
        checkpoints.save(3, trained_state(3), score=1.0)
        checkpoints.save(8, trained_state(8), score=0.0)
    return folder


def test_damage_to_any_file_is_one_line_and_goes_back_to_the_one_before_when_asked(
    tmp_path, two_checkpoints, capfd
):
    folder, like = tmp_path / "run", trained_state()
    files = sorted(p for p in (two_checkpoints / "8").rglob("*") if p.is_file())
    assert "manifest.json" in {file.name for file in files}
    for file, damage in itertools.product(files, (delete, truncate, flip)):
        shutil.copytree(two_checkpoints, folder)
        damage(folder / file.relative_to(two_checkpoints))
        with pytest.raises(RunError) as caught, Checkpoints(folder) as checkpoints:
            checkpoints.restore(8, like)
        message = str(caught.value)
        assert message.startswith(f"{folder / '8'}: damaged, ")
        assert message.endswith("; delete that folder to go on from step 3")
        assert "\n" not in message
        with Checkpoints(folder, fall_back=True) as checkpoints:
            assert checkpoints.latest_step() == 3
            assert_same(checkpoints.restore(3, like), trained_state(3))
        assert len([*(folder / ".damaged-checkpoints").iterdir()]) == 1
        shutil.rmtree(folder)
    assert capfd.readouterr() == ("", "")


def test_a_run_that_went_back_saves_the_damaged_step_again(tmp_path, two_checkpoints):
    folder, state = shutil.copytree(two_checkpoints, tmp_path / "run"), trained_state()
    truncate(folder / "8" / "manifest.json")
    with Checkpoints(folder, fall_back=True) as checkpoints:
        checkpoints.save(8, state, score=0.0)
    with Checkpoints(folder) as checkpoints:
        assert_same(checkpoints.restore(8, state), state)


def test_a_checkpoint_of_a_newer_version_is_refused_and_stays(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("rankjax.train.checkpoint.FORMAT", 7)
        with Checkpoints(tmp_path) as checkpoints:
            checkpoints.save(1, trained_state(), score=0.0)
    for fall_back in (False, True):
        with pytest.raises(RunError, match="by a newer rankjax, in format 7; this one"):
            Checkpoints(tmp_path, fall_back=fall_back)
    assert steps_in(tmp_path) == ["1"]


def test_a_checkpoint_of_an_older_version_is_refused_and_stays(tmp_path):
    (tmp_path / "1" / "manifest").mkdir(parents=True)
    for fall_back in (False, True):
        with pytest.raises(RunError, match=f"{tmp_path}/1: saved by an older rankjax"):
            Checkpoints(tmp_path, fall_back=fall_back)
    assert steps_in(tmp_path) == ["1"]


def test_a_lone_damaged_checkpoint_says_to_start_again(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, trained_state(), score=0.0)
    truncate(tmp_path / "1" / "manifest.json")
    with pytest.raises(RunError, match=r"; delete it to start again$"):
        Checkpoints(tmp_path)


@pytest.mark.parametrize(
    ("like", "words"),
    [
        (
            {"x": jnp.ones((2, 4))},
            r"float32\[2,3\] as x, this run has float32\[2,4\]",
        ),
        ({"x": jnp.ones((2, 3), jnp.bfloat16)}, r"this run has bfloat16\[2,3\]"),
        (
            {"y": jnp.ones((2, 3))},
            r"holds float32\[2,3\] as x, this run has nothing",
        ),
        ({"x": jnp.ones((2, 3)), "y": jnp.ones(1)}, r"holds nothing as y"),
    ],
)
def test_another_state_is_refused_by_the_name_of_the_leaf(tmp_path, like, words):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, {"x": jnp.ones((2, 3))}, score=0.0)
        with pytest.raises(RunError, match=words) as caught:
            checkpoints.restore(1, like)
    assert str(caught.value).startswith(f"{tmp_path / '1'}: ")


def test_wrong_arguments_are_named(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        with pytest.raises(ValueError, match="score is nan, must be finite"):
            checkpoints.save(1, {"x": jnp.ones(1)}, score=float("nan"))
        checkpoints.save(2, {"x": jnp.ones(1)}, score=0.0)
        with pytest.raises(ValueError, match="step is 2, must be above 2"):
            checkpoints.save(2, {"x": jnp.ones(1)}, score=0.0)
        with pytest.raises(ValueError, match=r"step is 1, saved are \[2\]"):
            checkpoints.restore(1, {"x": jnp.ones(1)})


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(
        RunError, match=rf"{tmp_path}/file/run: cannot be written: .*Not a directory"
    ):
        Checkpoints(tmp_path / "file" / "run")


def no_space(*args, **kwargs):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def no_space_in_tensorstore(*args, **kwargs):
    raise ValueError("UNKNOWN: Error writing: No space left on device [system: 28]")


@pytest.mark.parametrize("fault", [no_space, no_space_in_tensorstore])
@pytest.mark.parametrize("when", ["wait", "close", "save"])
def test_a_full_disk_is_one_line_with_the_folder(tmp_path, monkeypatch, when, fault):
    monkeypatch.setattr(ocp.StandardCheckpointer, "save", fault)
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(2, {"x": jnp.ones(1)}, score=0.0)
    call = {
        "wait": checkpoints.wait,
        "close": checkpoints.close,
        "save": lambda: checkpoints.save(3, {"x": jnp.ones(1)}, score=0.0),
    }[when]
    with pytest.raises(RunError, match=f"{tmp_path}: the disk is full; what was saved"):
        call()
    checkpoints.close()
    assert list(tmp_path.iterdir()) == []


def test_other_errors_of_a_save_are_not_called_a_full_disk(tmp_path, monkeypatch):
    def broken(*args, **kwargs):
        raise OSError(errno.EIO, "broken")

    monkeypatch.setattr(ocp.StandardCheckpointer, "save", broken)
    with (
        pytest.raises(RunError, match=r"cannot be written: .*broken"),
        Checkpoints(tmp_path) as checkpoints,
    ):
        checkpoints.save(1, {"x": jnp.ones(1)}, score=0.0)


def test_orbax_logs_nothing_and_others_still_do(tmp_path, caplog):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, {"x": jnp.ones(1)}, score=0.0)
    assert caplog.records == []
    logging.getLogger("absl").error("heard")
    assert caplog.messages == ["heard"]


ENDLESS_SAVES = """
import sys, numpy as np
from pathlib import Path
from rankjax.train.checkpoint import Checkpoints

with Checkpoints(Path(sys.argv[1])) as checkpoints:
    step = checkpoints.latest_step() or 0
    while True:
        step += 1
        noise = np.random.default_rng(step).bytes(2_000_000)
        state = {"noise": np.frombuffer(noise, np.uint8)}
        checkpoints.save(step, state, score=-step)
        print(step, flush=True)
"""


def test_runs_killed_while_saving_go_on_from_a_whole_checkpoint(tmp_path):
    def noise(step):
        content = np.random.default_rng(step).bytes(2_000_000)
        return {"noise": np.frombuffer(content, np.uint8)}

    like, started_from = noise(0), 0
    for kill in range(3):
        process = subprocess.Popen(
            [sys.executable, "-c", ENDLESS_SAVES, str(tmp_path)],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        with process.stdout as lines:
            for line in lines:
                if int(line) == started_from + 3:
                    break
            time.sleep(0.02 * kill)
            process.send_signal(signal.SIGKILL)
        process.wait()
        with Checkpoints(tmp_path) as checkpoints:
            step = checkpoints.latest_step()
            # A save waits for the one before it, so of three at most one is lost.
            assert step is not None
            assert step >= started_from + 2
            assert_same(checkpoints.restore(step, like), noise(step))
            started_from = step + 1
            checkpoints.save(started_from, noise(started_from), score=-started_from)
        assert str(started_from) in steps_in(tmp_path)
        assert all(name.isdigit() for name in steps_in(tmp_path))
