"""TFRecord files are written by hand: a length and a checksum, data, a checksum."""

import json
import shutil
import struct

import numpy as np
import pytest
import tensorflow_datasets as tfds

from rankjax.data import load, make_batches
from rankjax.data.records import RecordFiles
from rankjax.errors import RunError


def _write(file, records):
    content = [
        struct.pack("<QI", len(r), 0) + r + struct.pack("<I", 0) for r in records
    ]
    file.write_bytes(b"".join(content))


def test_records_of_several_files_are_read_by_index(tmp_path):
    records = [bytes([i]) * (i * 7 % 50) for i in range(20)]
    files = [tmp_path / f"é {i}.tfrecord" for i in range(4)]
    for file, part in zip(
        files, (records[:9], [], records[9:10], records[10:]), strict=True
    ):
        _write(file, part)
    source = RecordFiles(files, lambda record: record)
    assert len(source) == 20
    assert [source[i] for i in range(20)] == records
    assert source.__getitems__([19, 0, 9, 9]) == [records[i] for i in (19, 0, 9, 9)]
    assert list(source) == records


def test_file_that_is_cut_off_or_compressed_is_named(tmp_path):
    file = tmp_path / "x.tfrecord"
    _write(file, [b"abc", b"defgh"])
    whole = file.read_bytes()
    for content, number in ((whole[:-1], 1), (whole[:10], 0), (b"\x1f\x8b" * 20, 0)):
        file.write_bytes(content)
        with pytest.raises(RunError, match=rf"x.tfrecord is damaged .*record {number}"):
            RecordFiles([file], bytes)
    with pytest.raises(OSError, match="nowhere"):
        RecordFiles([tmp_path / "nowhere"], bytes)


def test_data_set_prepared_as_tfrecord_gives_the_same_batches(data_dir, tmp_path):
    expected = load("digits", data_dir=data_dir)
    shutil.copytree(data_dir / "digits", tmp_path / "digits")
    (folder,) = (tmp_path / "digits").iterdir()
    builder = tfds.builder_from_directory(folder)
    for name, split in builder.info.splits.items():
        source = builder.as_data_source(name).data_source
        (old,) = split.filepaths
        _write(
            folder / old.name.replace("array_record", "tfrecord"),
            source.__getitems__(range(len(source))),
        )
        old.unlink()
    for cached in folder.glob("*.npy"):
        cached.unlink()
    info = folder / "dataset_info.json"
    described = json.loads(info.read_text()) | {"fileFormat": "tfrecord"}
    info.write_text(json.dumps(described).replace("array_record", "tfrecord"))

    got = load("digits", data_dir=tmp_path)
    for one, other in ((expected.train, got.train), (expected.test, got.test)):
        batches = [
            make_batches("class_balanced", s, classes=4, per_class=3, seed=0)
            for s in (one, other)
        ]
        for step in range(5):
            indices = batches[1](step)
            np.testing.assert_array_equal(batches[0](step), indices)
            np.testing.assert_array_equal(
                one.images.read(indices), other.images.read(indices)
            )
