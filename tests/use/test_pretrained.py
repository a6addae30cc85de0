"""Backbones with weights of others embed and search without a run."""

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from photos import make_photos
from weight_file import write_safetensors

from experiments import embed
from experiments.config import Config
from experiments.images import Views
from experiments.parity import backbones
from experiments.search.index import QueryEmbedder, read_index
from experiments.training.network import network
from experiments.training.weights import pretrain, sentence
from rankjax.errors import RunError
from rankjax.exported import Inputs
from rankjax.models.weights import named_arrays

ENTRY = backbones.stored()["mobilenet_v3_small, timm"]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Weights, photos in folders by class, and their embeddings."""
    folder = tmp_path_factory.mktemp("pretrained")
    make_photos(folder / "photos", 2, 3)
    arrays = {f"model.{k}": v for k, v in backbones.weights(ENTRY).items()}
    write_safetensors(folder / "w.safetensors", arrays)
    words = ["--model", "mobilenet_v3_small", "--weights", folder / "w.safetensors"]
    words += [
        "--weights-part",
        "model",
        "--image-size",
        32,
        folder / "photos",
        "--out",
        folder / "x.npz",
    ]
    assert embed.main([str(word) for word in words]) == 0
    return folder


def test_embeddings_are_the_features_of_images_of_the_asked_size(made):
    file = np.load(made / "x.npz")
    np.testing.assert_allclose(np.linalg.norm(file["embeddings"], axis=1), 1, rtol=1e-5)
    network = backbones.network(ENTRY | {"image_size": 32}, backbones.weights(ENTRY))
    inputs = Inputs(32, 32, 3, fit="crop", alpha="white")
    pixels = Views(file["paths"].tolist(), inputs).read(np.arange(6))
    features = np.asarray(network.features(jnp.asarray(pixels)))
    expected = features / np.linalg.norm(features, axis=1, keepdims=True)
    np.testing.assert_allclose(file["embeddings"], expected, atol=1e-5)
    assert file["labels"].tolist() == [0, 0, 0, 1, 1, 1]


def test_queries_are_embedded_as_the_images_were(made):
    index = read_index(made / "x.npz")
    query = made / "photos" / "class1" / "1.png"
    found = QueryEmbedder(index)([str(query)])
    row = [str(p).endswith("class1/1.png") for p in index.paths].index(True)
    np.testing.assert_allclose(found[0], index.embeddings[row], atol=1e-5)


def test_other_weights_than_those_of_the_index_are_refused(made, tmp_path):
    copy = tmp_path / "x.npz"
    copy.write_bytes((made / "x.npz").read_bytes())
    file = made / "w.safetensors"
    before = file.read_bytes()
    try:
        arrays = {f"model.{k}": v + 1 for k, v in backbones.weights(ENTRY).items()}
        write_safetensors(file, arrays)
        with pytest.raises(RunError, match="made by other weights than"):
            QueryEmbedder(read_index(copy))
    finally:
        file.write_bytes(before)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["photos"], "give NETWORK and IMAGES, got photos alone"),
        (["photos", "--model", "dinov2_small"], "model and weights must be given"),
        (
            ["photos", "--model", "dinov2_smal", "--weights", "w.safetensors"],
            "dinov2_small",
        ),
        (
            ["photos", "--model", "dinov2_small", "--weights", "w.safetensors"],
            "not the weights of this network",
        ),
        (
            ["photos", "--model", "resnet18", "--weights", "none"],
            "there is no such file",
        ),
    ],
)
def test_what_does_not_fit_is_one_line(words, message, made, capsys, monkeypatch):
    monkeypatch.chdir(made)
    assert embed.main([*words, "--out", "y.npz"]) in (1, 2)
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert message in said
    assert said.count("\n") == 1


def test_a_run_starts_from_the_part_of_a_file_that_it_names(tmp_path):
    arrays = backbones.weights(ENTRY)
    both = {f"raw.{k}": v for k, v in arrays.items()}
    both |= {f"model_ema.{k}": v + 1 for k, v in arrays.items()}
    write_safetensors(tmp_path / "w.safetensors", both)
    settings = Config().replace(model="mobilenet_v3_small", weights_part="model_ema")
    embedder = nnx.eval_shape(
        lambda: network(
            settings.model,
            image_size=(32, 32),
            channels=3,
            axis_name=None,
            rngs=nnx.Rngs(0),
        )
    )
    part = settings.model.weights_part
    path = tmp_path / "w.safetensors"
    loaded = pretrain(embedder, path, input_scale="auto", part=part)
    assert " of w.safetensors below model_ema (timm), its " in sentence(loaded)
    rename = embedder.backbone.layouts()["timm"].rename
    (kernel,) = (
        array
        for name, array in named_arrays(nnx.state(embedder.backbone)).items()
        if rename(name) == "conv_stem.weight"
    )
    expected = arrays["conv_stem.weight"].transpose(2, 3, 1, 0) + 1
    np.testing.assert_allclose(kernel[...], expected, rtol=1e-6)
