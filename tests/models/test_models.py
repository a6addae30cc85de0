import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from rankjax.errors import UsageError
from rankjax.models import SCALES, Embedder, Staged, backbone, build
from rankjax.models.layers import Dropout, Layers


def embedder(name: str, *, layers=None, **options) -> Embedder:
    settings = {
        "channels": 3,
        "embedding_dim": 16,
        "normalize": True,
    }
    layers = Layers(**({"axis_name": None, "rngs": nnx.Rngs(0)} | dict(layers or {})))
    return build(name, layers=layers, **(settings | options))


def images(n: int, channels: int = 3, size: int = 32) -> np.ndarray:
    shape = (n, size, size, channels)
    return np.random.default_rng(n).integers(0, 256, shape, dtype=np.uint8)


@pytest.mark.parametrize("channels", [3, 1])
def test_embeddings_are_float32_of_the_asked_length_and_unit_norm(channels):
    model = embedder("convnet", channels=channels)
    model.eval()
    z = jax.jit(lambda x: model(x))(images(2, channels))
    assert z.shape == (2, 16)
    assert z.dtype == jnp.float32
    np.testing.assert_allclose(np.linalg.norm(z, axis=1), 1, rtol=1e-5)


@pytest.mark.parametrize("name", SCALES)
def test_uint8_images_are_scaled_as_pretrained_weights_want_it(name):
    model = embedder("convnet")
    model.eval()
    model.scale = SCALES[name]
    x = images(2)
    by_hand = {
        "imagenet": (x / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225],
        "half": x / 127.5 - 1,
        "lite": (x - 127.0) / 128,
        "clip": (x / 255 - [0.48145466, 0.4578275, 0.40821073])
        / [0.26862954, 0.26130258, 0.27577711],
        "caffe": x - np.array([128.0, 117.0, 104.0]),
        "keras": x - np.array([123.68, 116.779, 103.939]),
    }[name]
    expected = model(by_hand.astype(np.float32))
    np.testing.assert_allclose(model(x), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("size", [(32, 64), (8, 200), (28, 28), (64, 64)])
def test_convnet_takes_images_of_any_size(size):
    model = embedder("convnet")
    x = np.random.default_rng(0).integers(0, 256, (3, *size, 3), np.uint8)
    assert model(x).shape == model(images(3)).shape
    model.eval()
    even = np.full((1, *size, 3), 77, np.uint8)
    assert np.isfinite(model(even)).all()
    *_, (_, mapped), (_, flat) = model.backbone.stages(x.astype(np.float32))
    positions = np.asarray(flat).reshape(3, 4, 4, -1)
    if all(side % 4 == 0 for side in mapped.shape[1:3]):
        n, high, wide, features = mapped.shape
        cells = np.asarray(mapped).reshape(n, 4, high // 4, 4, wide // 4, features)
        np.testing.assert_allclose(positions, cells.mean((2, 4)), rtol=1e-4, atol=1e-5)


def test_greyscale_images_are_seen_in_all_three_channels():
    grey = embedder("convnet", channels=1, grey_as_rgb=True)
    rgb = embedder("convnet", channels=3)
    grey.eval()
    rgb.eval()
    x = images(2, channels=1)
    np.testing.assert_array_equal(grey(x), rgb(np.repeat(x, 3, -1)))
    coloured = embedder("convnet", channels=3, grey_as_rgb=True)
    coloured.eval()
    x = images(2)
    np.testing.assert_array_equal(coloured(x), rgb(x))


class Same(Staged):
    """A backbone that gives back the images."""

    channels = features = 3

    def stages(self, images):
        yield "images", images


@pytest.mark.parametrize(
    ("pooling", "pool"),
    [
        ("default", lambda x: x.mean((1, 2))),
        ("average", lambda x: x.mean((1, 2))),
        ("max", lambda x: x.max((1, 2))),
        ("average_max", lambda x: x.mean((1, 2)) + x.max((1, 2))),
        ("gem", lambda x: np.cbrt((np.maximum(x, 1e-6) ** 3).mean((1, 2)))),
    ],
)
def test_pooling_is_its_formula(pooling, pool):
    model = Embedder(
        Same(), embedding_dim=2, normalize=False, pooling=pooling, rngs=nnx.Rngs(0)
    )
    x = np.random.default_rng(0).normal(size=(2, 4, 5, 3)).astype(np.float32)
    np.testing.assert_allclose(model.features(x), pool(x), rtol=1e-5, atol=1e-6)


def test_tokens_are_pooled_without_the_class_token_unless_it_is_asked_for():
    x = np.random.default_rng(0).normal(size=(2, 5, 3)).astype(np.float32)

    class Tokens(Same):
        has_class_token, others = True, 2  # and a register

        def pool(self, x):
            return x[:, 0]

        def stages(self, images):
            yield "tokens", jnp.asarray(x)

    def features(pooling):
        model = Embedder(
            Tokens(),
            embedding_dim=2,
            normalize=False,
            pooling=pooling,
            rngs=nnx.Rngs(0),
        )
        return model.features(jnp.ones((2, 4, 4, 3)))

    for pooling in ("default", "class_token"):
        np.testing.assert_array_equal(features(pooling), x[:, 0])
    np.testing.assert_allclose(features("average"), x[:, 2:].mean(1), rtol=1e-5)
    np.testing.assert_array_equal(features("max"), x[:, 2:].max(1))


def test_the_head_normalises_features_and_has_hidden_layers():
    model = Embedder(
        Same(),
        embedding_dim=2,
        normalize=False,
        head_layers=(5, 4),
        head_norm=True,
        rngs=nnx.Rngs(0),
    )
    x = np.random.default_rng(0).normal(size=(6, 1, 1, 3)).astype(np.float32)
    y = x[:, 0, 0]
    y = (y - y.mean(1, keepdims=True)) / np.sqrt(y.var(1, keepdims=True) + 1e-6)
    for layer in (*model.hidden, model.head):
        y = y @ layer.kernel[...] + layer.bias[...]
        if layer is not model.head:
            y = np.maximum(y, 0)
    np.testing.assert_allclose(model(x), y, rtol=1e-4, atol=1e-5)


def test_only_transformers_have_a_class_token_and_only_one_size():
    with pytest.raises(UsageError, match="class_token, and this Same has no"):
        Embedder(
            Same(),
            embedding_dim=2,
            normalize=False,
            pooling="class_token",
            rngs=nnx.Rngs(0),
        )
    with pytest.raises(UsageError, match="patch, 16, got 40; the nearest is 32"):
        embedder("vit_small_patch16", image_size=40)
    with pytest.raises(UsageError, match=r"14, got \(56, 60\); the nearest is 56"):
        embedder("dinov2_small", image_size=(56, 60))


def test_zero_embedding_has_a_finite_gradient():
    model = embedder("convnet")
    model.head.kernel[...] = jnp.zeros_like(model.head.kernel[...])
    graph, params, rest = nnx.split(model, nnx.Param, ...)

    def loss(params):
        return nnx.merge(graph, params, rest, copy=True)(images(2)).sum()

    value, gradient = jax.jit(jax.value_and_grad(loss))(params)
    assert value == 0
    assert all(np.isfinite(g).all() for g in jax.tree.leaves(gradient))


def test_eval_mode_embeds_each_image_alone():
    model = embedder("convnet")
    model.eval()
    x = images(4)
    alone = jnp.concatenate([model(x[i : i + 1]) for i in range(4)])
    np.testing.assert_allclose(model(x), alone, rtol=1e-5, atol=1e-6)


def test_unknown_model_names_the_nearest():
    with pytest.raises(UsageError, match=r"'resnet81'; did you mean resnet18"):
        embedder("resnet81")


@pytest.mark.parametrize(
    ("name", "sides"),
    [
        ("convnext_tiny", (31, 32)),
        pytest.param("googlenet", (14, 15, 40), marks=pytest.mark.slow),
        pytest.param("bn_inception", (30, 31, 38, 39, 63), marks=pytest.mark.slow),
        pytest.param("densenet169", (28, 29), marks=pytest.mark.slow),
    ],
)
def test_a_network_takes_the_sizes_of_images_that_its_strides_leave_something_of(
    name, sides
):
    made = nnx.eval_shape(
        lambda: backbone(name, channels=3, layers=Layers(None, nnx.Rngs(0)))
    )

    def last(made, images):
        return [x for _, x in made.stages(images)][-1]

    for side in sides:
        x = jax.ShapeDtypeStruct((1, side, side, 3), jnp.float32)
        try:
            something = 0 not in nnx.eval_shape(last, made, x).shape
        except TypeError:  # parts of different sizes are to be concatenated
            something = False
        assert made.takes(side) == something


def test_sizes_of_images_that_a_network_does_not_take_are_refused_with_the_nearest():
    def make():
        layers = Layers(None, nnx.Rngs(0))
        size = (64, 48)
        return backbone("bn_inception", channels=3, layers=layers, image_size=size)

    message = r"image_size must be one that BNInception takes, got \(64, 48\).* is 38"
    with pytest.raises(UsageError, match=message):
        nnx.eval_shape(make)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (images(2, 1), r"shape \(2, 32, 32, 1\)"),
        (images(2).astype(np.int32), "dtype int32"),
    ],
)
def test_wrong_images_are_named(x, message):
    with pytest.raises(ValueError, match=message):
        embedder("convnet")(x)


def test_dropout_drops_the_same_entries_on_eight_devices_and_on_one():
    rows = jnp.ones((16, 100))

    def dropped(rows, axis_name=None):
        layer = Dropout(0.25, axis_name=axis_name)
        return layer(rows), layer(rows)

    first, second = dropped(rows)
    assert set(np.unique(first)) == {np.float32(0), np.float32(1 / 0.75)}
    assert 0.2 < np.mean(first == 0) < 0.3
    assert len(np.unique(np.asarray(first), axis=0)) == 16
    assert np.any(first != second)
    spread = jax.pmap(lambda x: dropped(x, "batch"), axis_name="batch")
    for got, expected in zip(
        spread(rows.reshape(8, 2, 100)), (first, second), strict=True
    ):
        np.testing.assert_array_equal(got.reshape(16, 100), expected)


def test_nothing_is_dropped_in_eval_mode():
    model = embedder("convnet", dropout=0.5)
    model.eval()
    np.testing.assert_array_equal(model(images(4)), model(images(4)))
    model.train()
    assert np.any(model(images(4)) != model(images(4)))


def test_stochastic_depth_leaves_out_whole_rows_the_same_on_eight_devices_and_on_one():
    layers = Layers("batch", nnx.Rngs(0), stochastic_depth=0.5)
    assert [layers.branch(i, 4).rate for i in range(4)] == [0.125, 0.25, 0.375, 0.5]
    rows = jnp.ones((64, 3, 2))
    alone = Dropout(0.5, axis_name=None, seed=4, whole_rows=True)(rows)
    assert set(np.unique(alone)) == {np.float32(0), np.float32(2)}
    assert 0.3 < np.mean(alone == 0) < 0.7
    assert np.all(alone == alone[:, :1, :1])
    spread = jax.pmap(lambda x: layers.branch(3, 4)(x), axis_name="batch")
    np.testing.assert_array_equal(
        spread(rows.reshape(8, 8, 3, 2)).reshape(64, 3, 2), alone
    )


@pytest.mark.parametrize("rate", [-0.1, 1.0])
def test_a_dropout_rate_out_of_range_is_refused(rate):
    with pytest.raises(ValueError, match="rate"):
        Dropout(rate, axis_name=None)


@pytest.mark.parametrize("groups", [1, 4])
@pytest.mark.parametrize(
    ("size", "stride", "padding"),
    [
        *((size, stride, None) for size, stride in ((3, 1), (3, 2), (7, 2), (1, 2))),
        *((5, 2, 2), (2, 2, 0), (7, 7, 0), (3, 2, "SAME")),
    ],
)
def test_convolutions_and_their_gradients_are_those_of_xla(
    groups, size, stride, padding
):
    layer = Layers(None, nnx.Rngs(0)).conv(
        4, 4, size, stride=stride, groups=groups, padding=padding
    )
    graph, params = nnx.split(layer, nnx.Param)
    sides = size // 2 if padding is None else padding
    pads = sides if sides == "SAME" else [(sides, sides)] * 2
    x = np.random.default_rng(0).normal(size=(2, 14, 15, 4)).astype(np.float32)

    def ours(params, x):
        return nnx.merge(graph, params)(x)

    def plain(params, x):
        return jax.lax.conv_general_dilated(
            *(x, params["kernel"][...], (stride, stride), pads),
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=groups,
        )

    np.testing.assert_allclose(ours(params, x), plain(params, x), atol=1e-5)
    found, expected = (
        jax.tree.leaves(
            jax.grad(lambda *given, f=f: (f(*given) ** 3).sum(), argnums=(0, 1))(
                params, x
            )
        )
        for f in (ours, plain)
    )
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-3)


def test_networks_have_no_batch_statistics_with_group_norm():
    model = embedder("resnet18", layers={"norm_kind": "group"})
    assert not jax.tree.leaves(nnx.state(model, nnx.BatchStat))
    x = images(2)
    alone = jnp.concatenate([model(x[:1]), model(x[1:])])
    np.testing.assert_allclose(model(x), alone, rtol=1e-4, atol=1e-5)
