import json
import os
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.record_writer import RecordWriter

from rankjax.errors import RunError, UsageError
from rankjax.train import RunFolder, read_history

CONFIG = {"loss": "n_pairs", "steps": 100, "loss_options": ["scale=16"]}


def row(step, **values):
    return {"step": step, "loss": 1 / step, **values}


def open_folder(path, config=CONFIG, needs=0):
    return RunFolder(path, config, needs=needs)


def contents(path: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in path.rglob("*") if p.is_file()}


def test_rows_are_found_again_in_order(tmp_path):
    with open_folder(tmp_path / "new" / "run") as folder:
        assert read_history(folder.path) == []
        folder.rewind(0)
        for step in (1, 2):
            folder.log(row(step))
        assert read_history(folder.path) == [row(1), row(2)]
    with open_folder(tmp_path / "new" / "run") as folder:
        assert read_history(folder.path) == [row(1), row(2)]
        assert json.loads((folder.path / "config.json").read_text()) == CONFIG
        assert list(folder.path.glob("tensorboard/events.*"))


def test_another_config_is_refused_by_the_settings_that_differ(tmp_path):
    with open_folder(tmp_path):
        pass
    before = contents(tmp_path)
    other = CONFIG | {"steps": 200, "loss_options": [], "seed": 1}
    with pytest.raises(UsageError) as caught:
        open_folder(tmp_path, other)
    message = str(caught.value)
    assert "steps 100 (here 200)" in message
    assert "loss_options ['scale=16'] (here [])" in message
    assert "seed None (here 1)" in message
    assert "loss 'n_pairs'" not in message
    assert "\n" not in message
    assert contents(tmp_path) == before
    open_folder(tmp_path).close()


def test_a_tuple_in_the_config_is_the_list_that_json_made_of_it(tmp_path):
    for _ in range(2):
        open_folder(tmp_path, CONFIG | {"loss_options": ("scale=16",)}).close()


def test_a_folder_of_other_files_is_refused_and_left_as_it_was(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(UsageError, match=f"{tmp_path} holds other files"):
        open_folder(tmp_path)
    assert contents(tmp_path) == {"thesis.tex": b"years of work"}


def test_a_run_killed_at_its_first_write_can_start(tmp_path):
    (tmp_path / ".lock").touch()
    (tmp_path / ".config.json.x7k2").write_text('{"lo')
    open_folder(tmp_path).close()


def test_rewinding_forgets_later_rows_and_half_a_line(tmp_path):
    with open_folder(tmp_path) as folder:
        folder.rewind(0)
        for step in (2, 4, 6):
            folder.log(row(step))
    with open(tmp_path / "metrics.jsonl", "a") as file:
        file.write('{"step": 8, "lo')
    with open_folder(tmp_path) as folder:
        assert read_history(folder.path) == [row(2), row(4), row(6)]
        folder.rewind(4)
        assert read_history(folder.path) == [row(2), row(4)]
        folder.log(row(5))
        assert read_history(folder.path) == [row(2), row(4), row(5)]


@pytest.mark.parametrize("name", ["metrics.jsonl", "config.json"])
@pytest.mark.parametrize("content", [b"{]\n", b"\xff\xfe\n", b"[5]\n"])
def test_a_damaged_file_is_one_line_that_names_it(tmp_path, name, content):
    open_folder(tmp_path).close()
    (tmp_path / name).write_bytes(content)
    with (
        pytest.raises(RunError, match=f"{tmp_path / name}: .*mend or delete") as caught,
        open_folder(tmp_path) as folder,
    ):
        folder.rewind(0)
    assert "\n" not in str(caught.value)


def test_a_folder_in_use_by_another_process_is_refused(tmp_path):
    code = f"""
from pathlib import Path
from rankjax.train import RunFolder, read_history
with RunFolder(Path({str(tmp_path)!r}), {CONFIG!r}, needs=0):
    print("open", flush=True)
    input()
"""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", code], **pipes) as other:
        assert other.stdout.readline() == b"open\n"
        with pytest.raises(RunError, match=f"{tmp_path} is in use by another process"):
            open_folder(tmp_path)
        other.kill()
    open_folder(tmp_path).close()


def test_too_little_room_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(RunError, match=r"MB are free, the run needs about 1000000 MB"):
        open_folder(tmp_path, needs=10**12)
    assert contents(tmp_path) == {".lock": b""}
    open_folder(tmp_path).close()


def events(path: Path) -> list[Event]:
    """The events of a file, whose frames are length, checksum, data, checksum."""
    found, content = [], path.read_bytes()
    while content:
        (length,) = struct.unpack_from("<Q", content)
        found.append(Event.FromString(content[12 : 12 + length]))
        content = content[16 + length :]
    return found


def test_tensorboard_events_hold_every_figure_at_its_step(tmp_path):
    with open_folder(tmp_path) as folder:
        folder.rewind(4)
        folder.log(row(5, recall=0.5))
    (file,) = tmp_path.glob("tensorboard/events.out.tfevents.*")
    version, start, *scalars = events(file)
    assert version.file_version == "brain.Event:2"
    assert start.step == 5
    assert start.session_log.status == SessionLog.START
    values = {e.summary.value[0].tag: e.summary.value[0].simple_value for e in scalars}
    assert values == pytest.approx({"loss": 0.2, "recall": 0.5})
    assert all(event.step == 5 for event in scalars)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="a device of Linux")
@pytest.mark.parametrize("name", ["metrics.jsonl", "events"])
def test_a_disk_that_fills_up_while_logging_is_one_line(tmp_path, name):
    with open_folder(tmp_path) as folder:
        folder.rewind(0)
        if name == "events":
            folder._events.close()
            folder._events = RecordWriter("/dev/full")
        else:
            (tmp_path / name).unlink()
            (tmp_path / name).symlink_to("/dev/full")
        with pytest.raises(RunError) as caught:
            folder.log(row(1))
    assert str(caught.value).startswith(f"{tmp_path}: the disk is full; ")
    assert "\n" not in str(caught.value)


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "run"):
        message = f"run_dir must be a folder, got {path}: {tmp_path}/file is none"
        with pytest.raises(UsageError, match=message):
            open_folder(path)
