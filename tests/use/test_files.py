"""Files that were damaged or made to do harm end in one line, and at once."""

import io
import os
import struct
import zipfile

import numpy as np
import pytest
from numpy.lib import format as npy

from rankjax.data.splits import some
from rankjax.errors import RunError, UsageError
from rankjax.files import (
    below_common,
    open_regular,
    printable,
    read_json,
    read_npz,
    read_regular,
)

ROWS = np.arange(12.0).reshape(3, 4)


def entry(array) -> bytes:
    file = io.BytesIO()
    npy.write_array(file, np.asarray(array), allow_pickle=True)
    return file.getvalue()


def archive(content: bytes, method: int = zipfile.ZIP_STORED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as opened:
        opened.writestr("rows.npy", content)
    return file.getvalue()


def header(shape, descr="<f8") -> bytes:
    file = io.BytesIO()
    fields = {"descr": descr, "fortran_order": False, "shape": shape}
    npy.write_array_header_1_0(file, fields)
    return file.getvalue()


def edited(content: bytes, *, local: int, central: int, number: int) -> bytes:
    """Another number of two bytes in both headers of the one entry."""
    found, other = bytearray(content), content.index(b"PK\1\2")
    for at in (local, other + central):
        found[at : at + 2] = struct.pack("<H", number)
    return bytes(found)


def corrupt(content: bytes) -> bytes:
    """Data that no stream of deflate has, with its true length."""
    at = content.index(b"rows.npy") + 8
    return content[:at] + b"\xff" * 40 + content[at + 40 :]


DAMAGED = {
    "empty": b"",
    "text": b"words",
    "one array": entry(ROWS),
    "cut": archive(entry(ROWS))[:150],
    "flipped": archive(entry(ROWS)).replace(entry(ROWS)[-8:], b"12345678"),
    "deflate": corrupt(archive(entry(ROWS), zipfile.ZIP_DEFLATED)),
    "unknown method": edited(archive(entry(ROWS)), local=8, central=10, number=97),
    "encrypted": edited(archive(entry(ROWS)), local=6, central=8, number=1),
    "no array": archive(b""),
    "80 terabytes": archive(header((10**13,)) + b"1234"),
    "more than integers": archive(header((10**30,))),
    "below zero": archive(header((-1, 4))),
    "code": archive(b"\x93NUMPY\1\0\x10\0" + b"exit(1)".ljust(15) + b"\n"),
    "nested": archive(b"\x93NUMPY\1\0" + struct.pack("<H", 9000) + b"(" * 9000),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_an_npz_file_damaged_in_any_way_is_refused_in_one_line(name, tmp_path):
    file = tmp_path / "x.npz"
    file.write_bytes(DAMAGED[name])
    with pytest.raises(RunError) as caught:
        read_npz(file, ["rows"])
    line = str(caught.value)
    assert line.startswith(f"cannot read {file}: it is damaged or no .npz file (")
    assert "\n" not in line


@pytest.mark.parametrize("method", [0, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA])
def test_wanted_arrays_are_read_and_the_others_named(method, tmp_path):
    file = tmp_path / "x.npz"
    with zipfile.ZipFile(file, "w", method) as opened:
        opened.writestr("rows.npy", entry(np.asfortranarray(ROWS)))
        opened.writestr("names.npy", entry(["ü", "b\udcff"]))
        opened.writestr("objects.npy", entry(np.array([{}])))
        opened.comment = b"said"
    arrays, others, comment = read_npz(file, {"rows", "names", "missing"})
    np.testing.assert_array_equal(arrays["rows"], ROWS)
    assert arrays["names"].tolist() == ["ü", "b\udcff"]
    assert (others, comment) == (("objects",), b"said")
    with pytest.raises(UsageError, match="objects must be numbers or strings, got Py"):
        read_npz(file, ["objects"])


@pytest.mark.parametrize("kind", ["pipe", "device", "folder", "missing", "null"])
def test_what_is_no_regular_file_is_refused_without_waiting(kind, tmp_path):
    path = tmp_path / "x"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "folder":
        path.mkdir()
    elif kind == "null":
        path = tmp_path / "a\0b"
    for read in (open_regular, read_regular):
        with pytest.raises(OSError, match=r"x|a\\x00b"):
            read(path)
    for read in (read_json, lambda file: read_npz(file, [])):
        with pytest.raises(RunError, match=r"cannot read|there is no"):
            read(path)


@pytest.mark.parametrize("content", [b"", b"[]", b"\xff", b"[" * 10**5, b"9" * 5000])
def test_what_holds_no_json_object_is_refused(content, tmp_path):
    (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(RunError, match=r"x\.json: not"):
        read_json(tmp_path / "x.json")


def test_a_name_shows_what_would_reorder_or_hide_it():
    assert printable("gpj.\u202egnp.exe") == "gpj.U+202Egnp.exe"
    assert printable("\u2067a\u2069") == "U+2067aU+2069"
    assert printable("a\x1b[31mb\n\udcff\u2028") == "aU+001B[31mbU+000AU+DCFFU+2028"
    plain = "数字 ü שלום 👩‍👩‍👧\u202f\u200f"
    assert printable(plain) == plain


@pytest.mark.parametrize("kind", [RunError, UsageError])
def test_errors_and_lists_of_names_have_no_control_characters(kind):
    name = "\x1b]0;pwn\x07\u202e"
    assert str(kind(f"{name} is missing")) == "U+001B]0;pwnU+0007U+202E is missing"
    assert some([name, 3]) == "U+001B]0;pwnU+0007U+202E, 3"


@pytest.mark.parametrize(
    ("paths", "common", "below"),
    [
        (["/a/b/1", "/a/c/1"], "/a", ["b/1", "c/1"]),
        (["/a/1", "/b/1"], "/", ["a/1", "b/1"]),
        (["a//b/1", "a/./b/c/../2"], "a/b", ["1", "2"]),
        (["a/1", "/a/1"], "", ["a/1", "/a/1"]),
        (["/a/1", ""], "", ["/a/1", ""]),
        ([], "", []),
    ],
)
def test_paths_are_parted_into_their_folder_and_what_follows(paths, common, below):
    assert below_common(paths) == (common, below)
