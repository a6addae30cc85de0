"""Reads files of weights without executing anything in them.

safetensors; PyTorch's `.pth`, both the zip archive and the format before it; Keras 3's
`.weights.h5`, where h5py is installed. A pickle can call any function of any module;
the reader here knows the operations that state dicts are made of and two functions, and
refuses all else.
"""

import collections
import io
import json
import math
import pickle
import struct
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import jax.numpy as jnp
import numpy as np

from rankjax.errors import RunError
from rankjax.files import read_regular

Arrays = dict[str, np.ndarray]

_TORCH_DTYPES: Mapping[str, Any] = {
    "FloatStorage": np.float32,
    "DoubleStorage": np.float64,
    "HalfStorage": np.float16,
    "BFloat16Storage": jnp.bfloat16,
    "LongStorage": np.int64,
    "IntStorage": np.int32,
    "ShortStorage": np.int16,
    "CharStorage": np.int8,
    "ByteStorage": np.uint8,
    "BoolStorage": np.bool_,
}
_SAFETENSORS_DTYPES: Mapping[str, Any] = {
    "F64": np.float64,
    "F32": np.float32,
    "F16": np.float16,
    "BF16": jnp.bfloat16,
    "I64": np.int64,
    "I32": np.int32,
    "I16": np.int16,
    "I8": np.int8,
    "U8": np.uint8,
    "BOOL": np.bool_,
}
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C


class _RefusedError(Exception):
    """What a file holds is not what weights are made of."""


def read_weights(path: Path) -> Arrays:
    """The arrays in a file, by the names that the file gives them.

    The kind of file is told from its first bytes. Tensors in dicts of dicts have the
    keys that lead to them in their names, with dots between.

    Raises:
      RunError: the file cannot be read, is damaged or holds what is no array; nothing
        in it was executed.
    """
    try:
        content = read_regular(path)
    except OSError as error:
        raise RunError(f"cannot read weights from {path}: {error}") from error
    try:
        found = _reader(content)(content)
    except RunError:
        raise
    except Exception as error:  # damaged files raise all kinds
        reason = str(error) if isinstance(error, _RefusedError) else repr(error)
        raise RunError(f"{path}: no readable weights: {reason[:200]}") from error
    if not found:
        raise RunError(f"{path}: holds no weights")
    return found


def _reader(content: bytes) -> Callable[[bytes], Arrays]:
    if content[:4] == b"PK\x03\x04":
        return _read_torch_zip
    if content[:8] == b"\x89HDF\r\n\x1a\n":
        return _read_keras
    if content[:1] == b"\x80":
        return _read_torch_legacy
    if content[8:9] == b"{":
        return _read_safetensors
    raise _RefusedError("neither safetensors, PyTorch nor Keras by its first bytes")


def _read_safetensors(content: bytes) -> Arrays:
    (length,) = struct.unpack("<Q", content[:8])
    if length > len(content) - 8:
        raise _RefusedError("it ends inside its header")
    header, data = json.loads(content[8 : 8 + length]), content[8 + length :]
    header.pop("__metadata__", None)
    missing = max((x["data_offsets"][1] for x in header.values()), default=0)
    missing -= len(data)
    if missing > 0:
        raise _RefusedError(f"it is cut short, {missing:,} bytes are missing")
    found = {}
    for name, entry in header.items():
        if entry["dtype"] not in _SAFETENSORS_DTYPES:
            raise _RefusedError(
                f"{name} is {entry['dtype']}, must be one of "
                f"{', '.join(_SAFETENSORS_DTYPES)}"
            )
        dtype = np.dtype(_SAFETENSORS_DTYPES[entry["dtype"]])
        start, end = entry["data_offsets"]
        size = _size(entry["shape"])
        if not 0 <= start <= end <= len(data) or end - start != size * dtype.itemsize:
            raise _RefusedError(f"{name} is not where the header says")
        found[name] = np.frombuffer(data[start:end], dtype).reshape(entry["shape"])
    return found


def _read_keras(content: bytes) -> Arrays:
    try:
        import h5py
    except ImportError as error:
        raise RunError("Keras weights need h5py: pip install h5py") from error
    found: Arrays = {}
    with h5py.File(io.BytesIO(content), "r") as file:

        def add(path: str, group: Any) -> None:
            if not path.endswith("/vars") or not len(group):
                return
            kinds = ("weight", "bias", "running_mean", "running_var")
            layer = group.attrs.get("name", path.split("/")[-2])
            for kind, item in zip(kinds, map(group.get, "0123"), strict=True):
                if item is None:
                    continue
                if item.nbytes > len(content):
                    raise _RefusedError(f"{layer}.{kind} is larger than the file")
                found[f"{layer}.{kind}"] = np.asarray(item)

        file.visititems(add)
    if not found:
        raise _RefusedError("it is no .weights.h5 of Keras 3")
    return found


class _Storage(NamedTuple):
    key: str
    dtype: np.dtype
    size: int


class _Tensor(NamedTuple):
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def read(self, data: bytes) -> np.ndarray:
        """The array in the bytes of its storage."""
        size, item = _size(self.shape), self.storage.dtype.itemsize
        if len(self.strides) != len(self.shape):
            raise _RefusedError("a tensor has more strides than dimensions")
        numbers = (self.offset, *self.strides)
        reach = self.offset + sum(
            (n - 1) * step for n, step in zip(self.shape, self.strides, strict=True)
        )
        count = len(data) // item
        if min(numbers) < 0 or (size and reach >= count) or size > count:
            raise _RefusedError(
                f"a tensor of shape {self.shape} reaches beyond its data"
            )
        flat = np.frombuffer(data, self.storage.dtype, count)
        strides = [step * item for step in self.strides]
        view = np.lib.stride_tricks.as_strided(
            flat[self.offset :], self.shape, strides, writeable=False
        )
        return view.copy()


def _size(shape: Any) -> int:
    if not all(type(n) is int and n >= 0 for n in shape):
        raise _RefusedError(f"{shape!r} is no shape")
    return math.prod(shape)


def _rebuild_tensor(
    storage: Any, offset: Any, shape: Any, strides: Any, *_: Any
) -> _Tensor:
    numbers = (offset, *shape, *strides)
    if not isinstance(storage, _Storage) or any(type(n) is not int for n in numbers):
        raise _RefusedError("a tensor is not made of numbers")
    return _Tensor(storage, offset, tuple(shape), tuple(strides))


def _rebuild_parameter(tensor: Any, *_: Any) -> Any:
    return tensor


class _Value:
    """Stands for a value beside the weights, such as a set or a device. What it is made
    of is forgotten."""

    def __new__(cls, *_: Any) -> "_Value":
        return super().__new__(cls)

    def __setitem__(self, *_: Any) -> None:
        pass


_DTYPES = (
    *("float16", "float32", "float64", "bfloat16", "uint8", "int8", "int16", "int32"),
    *("int64", "bool", "complex64", "complex128"),
)
_ALLOWED: Mapping[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
    ("torch._utils", "_rebuild_parameter"): _rebuild_parameter,
    **{("torch", name): name for name in _TORCH_DTYPES},
    **{("torch", name): name for name in _DTYPES},
    **{
        name: _Value
        for name in (
            *(("collections", "Counter"), ("collections", "defaultdict")),
            *(("__builtin__", x) for x in ("set", "frozenset", "dict", "list", "int")),
            *(("torch", "Size"), ("torch", "device"), ("argparse", "Namespace")),
            *(("numpy", "dtype"), ("_codecs", "encode"), ("pathlib", "PosixPath")),
            ("numpy.core.multiarray", "scalar"),
            ("numpy._core.multiarray", "scalar"),
        )
    },
}
_OPERATIONS = (
    *(pickle.PROTO, pickle.STOP, pickle.MARK, pickle.GLOBAL, pickle.REDUCE),
    *(pickle.BUILD, pickle.BINPERSID, pickle.NONE, pickle.NEWTRUE, pickle.NEWFALSE),
    *(pickle.BININT, pickle.BININT1, pickle.BININT2, pickle.LONG1, pickle.BINFLOAT),
    *(pickle.BINUNICODE, pickle.SHORT_BINSTRING, pickle.BINSTRING),
    *(pickle.EMPTY_TUPLE, pickle.TUPLE, pickle.TUPLE1, pickle.TUPLE2, pickle.TUPLE3),
    *(pickle.EMPTY_DICT, pickle.SETITEM, pickle.SETITEMS),
    *(pickle.EMPTY_LIST, pickle.APPEND, pickle.APPENDS, pickle.NEWOBJ),
    *(pickle.BINPUT, pickle.LONG_BINPUT, pickle.BINGET, pickle.LONG_BINGET),
)


class _Unpickler(pickle._Unpickler):
    """Pickles of state dicts and nothing else.

    The one in C cannot be told which operations it may do, and allots as much memory as
    a file asks for.
    """

    storages: dict[str, _Storage]
    dispatch: ClassVar[Any] = {
        code[0]: pickle._Unpickler.dispatch[code[0]] for code in _OPERATIONS
    }

    def find_class(self, module: str, name: str) -> Any:
        """The functions that state dicts need."""
        if (module, name) not in _ALLOWED:
            raise _RefusedError(
                f"its pickle asks for {module}.{name}, and only tensors are loaded; "
                "save the state dict alone"
            )
        return _ALLOWED[module, name]

    def load_build(self) -> None:
        """Forgets the attributes of an object, such as versions of modules."""
        self.stack.pop()  # type: ignore[attr-defined]

    dispatch[pickle.BUILD[0]] = load_build

    def persistent_load(self, pid: Any) -> _Storage:
        """A storage, whose data is elsewhere in the file."""
        kind, dtype, key, _, count, *_ = pid
        if kind != "storage" or type(count) is not int:
            raise _RefusedError("its pickle refers to what is no storage")
        storage = _Storage(str(key), np.dtype(_TORCH_DTYPES[dtype]), count)
        self.storages[storage.key] = storage
        return storage


def _unpickle(file: io.BytesIO, storages: dict[str, _Storage] | None = None) -> Any:
    """What a pickle holds; adds the storages that it refers to to `storages`."""
    unpickler = _Unpickler(file, encoding="ascii")
    unpickler.storages = {} if storages is None else storages
    try:
        return unpickler.load()
    except KeyError as error:
        # What the table of operations does not have, or a name that was never put.
        raise _RefusedError(f"its pickle has an operation or a key {error}") from error


def _tensors(tree: Any) -> dict[str, _Tensor]:
    """The tensors in dicts of dicts, by the keys that lead to them."""
    if not isinstance(tree, dict):
        raise _RefusedError(
            f"it holds a {type(tree).__name__.strip('_').lower()}, no dict"
        )
    found: dict[str, _Tensor] = {}
    left: list[tuple[str, dict[Any, Any]]] = [("", tree)]
    known = {id(tree)}  # a pickle may hold a dict many times
    while left:
        prefix, branch = left.pop(0)
        for key, value in branch.items():
            if isinstance(value, _Tensor):
                found[f"{prefix}{key}"] = value
            elif isinstance(value, dict) and id(value) not in known:
                known.add(id(value))
                left.append((f"{prefix}{key}.", value))
    if not found:
        raise _RefusedError(f"no state dict among {list(tree)[:8]}")
    return found


def _read_torch_zip(content: bytes) -> Arrays:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        names = archive.namelist()
        pickles = [name for name in names if name.endswith("/data.pkl")]
        if any(name.endswith("/constants.pkl") for name in names):
            raise _RefusedError("it is TorchScript; save module.state_dict() instead")
        if len(pickles) != 1:
            raise _RefusedError("the archive is not one of PyTorch's state dicts")
        if any(info.compress_type for info in archive.infolist()):
            raise _RefusedError("its archive is compressed, which PyTorch's never are")
        root = pickles[0].removesuffix("data.pkl")
        order = f"{root}byteorder"
        if order in names and archive.read(order) != b"little":
            raise _RefusedError("its numbers are big-endian")
        tensors = _tensors(_unpickle(io.BytesIO(archive.read(pickles[0]))))
        data: dict[str, bytes] = {}
        found = {}
        for name, tensor in tensors.items():
            key = tensor.storage.key
            if key not in data:
                data[key] = archive.read(f"{root}data/{key}")
            found[name] = tensor.read(data[key])
    return found


def _read_torch_legacy(content: bytes) -> Arrays:
    file = io.BytesIO(content)
    if _unpickle(file) != _LEGACY_MAGIC:
        raise _RefusedError("it is a pickle, but not one of PyTorch")
    _unpickle(file)  # version
    if not _unpickle(file).get("little_endian", True):
        raise _RefusedError("its numbers are big-endian")
    storages: dict[str, _Storage] = {}
    tensors = _tensors(_unpickle(file, storages))
    data = {}
    for key in _unpickle(file):
        (count,) = struct.unpack("<q", file.read(8))
        if key not in storages or count != storages[key].size or count < 0:
            raise _RefusedError(f"storage {key} is not the one that tensors refer to")
        data[key] = file.read(count * storages[key].dtype.itemsize)
    return {name: t.read(data[t.storage.key]) for name, t in tensors.items()}
