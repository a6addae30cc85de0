"""Named experiments that fine-tune pretrained networks on the field's benchmarks.

Their settings are those of the papers and of the authors' code; each says what it does
otherwise. Weights and images are the user's: by default weights lie in
~/.cache/rankjax/weights, and `--weights FILE` says otherwise. `--dry-run` tries data,
weights, memory and a step first.

Published figures are of the epoch that was best on the test set, unless stated. Ours
are measured on classes held out of training: choose by them with
`experiments.evaluate RUN --checkpoint best`.
"""

from collections.abc import Callable
from pathlib import Path

from experiments import config
from experiments.config import Config

_WEIGHTS = Path("~/.cache/rankjax/weights")
_BN_INCEPTION = _WEIGHTS / "bn_inception.pth"

_REALITY_CHECK = Config().replace(
    image_size=227,
    grey_as_rgb=True,
    short_side=256,
    fold=0,
    augmentation="random_resized_crop",
    augmentation_options=("scale=(0.16,1)", "ratio=(0.75,1.33)"),
    model="bn_inception",
    weights=_BN_INCEPTION,
    norm="frozen",
    embedding_dim=128,
    loss="multi_similarity",
    classes=8,
    per_class=4,
    steps=20_000,
    optimizer="rmsprop",
    learning_rate=1e-6,
    schedule="constant",
    warmup_steps=0,
    weight_decay=1e-4,
    eval_every=500,
    log_every=100,
)


def cub_reality_check() -> Config:
    """CUB-200-2011 as in "A Metric Learning Reality Check": a fold of four.

    python -m experiments.train cub_reality_check
    Musgrave, Belongie, Lim, ECCV 2020, with multi-similarity's tuned settings: BN-
    Inception, 128 dimensions, 32 images. Their MAP@R is 24.7 with the embeddings of all
    four folds side by side (--fold 1, 2, 3), in 512 dimensions; one fold gives less.
    They stop once validation has not risen for nine times 100 steps, and choose the
    best: here, `--checkpoint best` of a fixed number of steps.
    """
    return _REALITY_CHECK.replace(
        dataset="cub",
        loss_options=("alpha=0.01", "beta=50.6", "threshold=0.56"),
    )


def cars_reality_check() -> Config:
    """Cars-196 as in "A Metric Learning Reality Check": a fold of four.

    python -m experiments.train cars_reality_check
    As cub_reality_check; their MAP@R of all four folds is 28.1.
    """
    return _REALITY_CHECK.replace(
        dataset="cars",
        loss_options=("alpha=14.4", "beta=75.8", "threshold=0.66"),
    )


def sop_reality_check() -> Config:
    """Stanford Online Products as in "A Metric Learning Reality Check": a fold of four.

    python -m experiments.train sop_reality_check
    As cub_reality_check; their MAP@R of all four folds is 45.8.
    """
    return _REALITY_CHECK.replace(
        dataset="sop",
        loss_options=("alpha=8.5", "beta=57.4", "threshold=0.41"),
    )


_PROXY_ANCHOR = Config().replace(
    image_size=224,
    grey_as_rgb=True,
    short_side=256,
    augmentation="random_resized_crop",
    model="bn_inception",
    weights=_BN_INCEPTION,
    norm="frozen",
    pooling="average_max",
    embedding_dim=512,
    loss="proxy_anchor",
    proxies_per_class=1,
    proxy_learning_rate=100.0,
    batches="random",
    classes=180,
    per_class=1,
    learning_rate=1e-4,
    schedule="staircase",
    warmup_steps=0,
    weight_decay=1e-4,
    log_every=20,
)


def _epochs(images: int, *, decay: int, settings: Config) -> Config:
    """Sixty epochs of 180 images, the first with a frozen backbone."""
    epoch = images // 180
    return settings.replace(
        steps=60 * epoch,
        train_blocks=("none", f"{epoch}:all"),
        decay_every=decay * epoch,
        eval_every=2 * epoch,
    )


def cub_proxy_anchor() -> Config:
    """Proxy-Anchor on CUB-200-2011, BN-Inception with 512 dimensions.

    python -m experiments.train cub_proxy_anchor
    Kim et al., CVPR 2020: Recall@1 68.4; 69.1 with the settings of the authors' code
    (github.com/tjddus9597/Proxy-Anchor-CVPR2020), which are these but for clipped
    gradients, and for a tenth of the training classes that validates here.
    """
    settings = _PROXY_ANCHOR.replace(dataset="cub")
    return _epochs(5_864, decay=10, settings=settings)


def cars_proxy_anchor() -> Config:
    """Proxy-Anchor on Cars-196, BN-Inception with 512 dimensions.

    python -m experiments.train cars_proxy_anchor
    As cub_proxy_anchor; Recall@1 86.1 in the paper, 86.4 with the authors' code.
    """
    settings = _PROXY_ANCHOR.replace(dataset="cars")
    return _epochs(8_054, decay=20, settings=settings)


_LARGE = _PROXY_ANCHOR.replace(norm="batch", learning_rate=6e-4, decay_rate=0.25)


def sop_proxy_anchor() -> Config:
    """Proxy-Anchor on Stanford Online Products, BN-Inception with 512 dimensions.

    python -m experiments.train sop_proxy_anchor
    As cub_proxy_anchor; Recall@1 79.1 in the paper, 79.2 with the authors' code.
    """
    settings = _LARGE.replace(dataset="sop")
    return _epochs(59_551, decay=20, settings=settings)


def in_shop_proxy_anchor() -> Config:
    """Proxy-Anchor on In-Shop Clothes Retrieval, BN-Inception with 512 dimensions.

    python -m experiments.train in_shop_proxy_anchor
    As cub_proxy_anchor; Recall@1 91.5 in the paper, 91.9 with the authors' code.
    """
    settings = _LARGE.replace(dataset="in_shop")
    return _epochs(25_882, decay=20, settings=settings)


def market1501_trinet() -> Config:
    """Batch-hard triplets with the soft margin on Market-1501, ResNet-50.

    python -m experiments.train market1501_trinet
    Hermans, Beyer, Leibe, "In Defense of the Triplet Loss for Person Re-
    Identification", 2017 (TriNet): rank-1 84.9, one query, no re-ranking, as the data
    set's page lists it. Theirs has batch norm in the head, cuts 256 x 128 out of
    288 x 144, averages ten crops in testing, and lets the learning rate fall
    exponentially from step 15,000 on, which the cosine stands for.
    """
    return Config().replace(
        dataset="market1501",
        image_size=256,
        image_width=128,
        grey_as_rgb=True,
        augmentation="pad_crop_flip",
        model="resnet50",
        weights=_WEIGHTS / "resnet50.pth",
        head_layers=(1024,),
        embedding_dim=128,
        normalize=False,
        loss="batch_hard_triplet",
        classes=18,
        per_class=4,
        steps=25_000,
        optimizer="adam",
        learning_rate=3e-4,
        warmup_steps=0,
        weight_decay=0.0,
        eval_every=1000,
        log_every=100,
    )


def lfw_arc_face() -> Config:
    """ArcFace on Labeled Faces in the Wild, ResNet-50; verification of 6,000 pairs.

    python -m experiments.train lfw_arc_face
    Trained are the persons who are in none of the pairs of pairs.txt. Figures are the
    accuracy of LFW's protocol, whose thresholds are chosen on nine of ten folds, true
    accepts at rates of false ones, and AUC. Scale and margin are those of Deng et al.,
    CVPR 2019, whose accuracy of 99.8 is of a network that saw millions of aligned faces
    of others. The rest is ours, and we know of no published figure of so few persons.
    Faces are in the middle of LFW's images: 112 x 112 are cut out of 180 x 180.
    """
    return Config().replace(
        dataset="lfw",
        image_size=112,
        short_side=180,
        grey_as_rgb=True,
        augmentation="pad_crop_flip",
        model="resnet50",
        weights=_WEIGHTS / "resnet50.pth",
        norm="frozen",
        embedding_dim=512,
        loss="arc_face",
        proxies_per_class=1,
        proxy_learning_rate=10.0,
        batches="random",
        classes=128,
        per_class=1,
        steps=2_000,
        learning_rate=1e-4,
        warmup_steps=100,
        weight_decay=5e-4,
        eval_every=200,
    )


_HYP_VIT = Config().replace(
    image_size=224,
    grey_as_rgb=True,
    augmentation="random_resized_crop",
    augmentation_options=("scale=(0.2,1)",),
    model="vit_small_patch16",
    weights=_WEIGHTS / "vit_small_patch16_224.safetensors",
    input_scale="half",
    precision="bfloat16",
    embedding_dim=128,
    normalize=False,
    loss="nt_xent",
    loss_options=("temperature=0.2",),
    similarity="negative_hyperbolic",
    classes=450,
    per_class=2,
    learning_rate=3e-5,
    schedule="constant",
    warmup_steps=0,
    weight_decay=0.01,
    eval_every=500,
)


def sop_hyp_vit() -> Config:
    """Hyperbolic NT-Xent on Stanford Online Products, ViT-S/16 with 128 dimensions.

    python -m experiments.train sop_hyp_vit
    Ermolov et al., "Hyperbolic Vision Transformers", CVPR 2022 (Hyp-ViT): Recall@1
    85.9, weights of ImageNet-21k, 200 epochs that take two images of each class. The
    learning rate and the epochs are those of the authors' code
    (github.com/htdt/hyp_metric), batch, temperature and weight decay are ours; theirs
    clips gradients, searches by hyperbolic distance where evaluation here is by cosine,
    and trains on the tenth of classes that validates here.
    """
    return _HYP_VIT.replace(dataset="sop", steps=200 * 2 * 11_318 // 900)


def in_shop_hyp_vit() -> Config:
    """Hyperbolic NT-Xent on In-Shop Clothes Retrieval, ViT-S/16 with 128 dimensions.

    python -m experiments.train in_shop_hyp_vit
    As sop_hyp_vit, for 400 epochs; Recall@1 92.5.
    """
    return _HYP_VIT.replace(dataset="in_shop", steps=400 * 2 * 3_997 // 900)


def sop_lora() -> Config:
    """Multi-similarity on Stanford Online Products, adapters of DINOv2's ViT-S/14.

    python -m experiments.train sop_lora
    0.7 of 23 million parameters are trained. We know of no published figure; beside it
    stands the Recall@1 of 55.7 that OML's zoo gives for DINOv2's larger ViT-B/14 with
    registers, of which nothing is trained.
    """
    return Config().replace(
        dataset="sop",
        image_size=224,
        grey_as_rgb=True,
        augmentation="random_resized_crop",
        augmentation_options=("scale=(0.2,1)",),
        model="dinov2_small",
        weights=_WEIGHTS / "dinov2_vits14_pretrain.pth",
        lora=8,
        train_blocks=("none",),
        precision="bfloat16",
        embedding_dim=384,
        loss="multi_similarity",
        classes=64,
        per_class=4,
        steps=10_000,
        learning_rate=5e-4,
        eval_every=1000,
    )


def frozen_head() -> Config:
    """A linear head on the features of a frozen backbone, N-pairs.

    python -m experiments.embed --model dinov2_base_registers --weights FILE \\
        --dataset cub --manual-dir DIR --views 4 --out features.npz
    python -m experiments.evaluate features.npz
    python -m experiments.train frozen_head
    The second command evaluates without any training. Recall@1 of DINOv2's ViT-B/14
    with registers is then CUB .833, Cars .828, SOP .557 and In-Shop .324, and without
    registers .842, .644, .565 and .342, as the list of models of
    github.com/OML-Team/open-metric-learning has them (docs/readme/examples_source/zoo),
    of which ours may differ by the crop. The third takes half a minute on two CPU cores
    and shows that figure, too, as the row of frozen features; nobody has published one
    of this head.
    """
    return Config().replace(
        dataset="features:features.npz",
        model="features",
        augmentation="views",
        loss_options=("scale=16",),
        embedding_dim=512,
        classes=32,
        per_class=4,
        learning_rate=3e-4,
    )


RECIPES: dict[str, Callable[[], Config]] = {
    f.__name__: f
    for f in (
        cub_reality_check,
        cars_reality_check,
        sop_reality_check,
        cub_proxy_anchor,
        cars_proxy_anchor,
        sop_proxy_anchor,
        in_shop_proxy_anchor,
        market1501_trinet,
        lfw_arc_face,
        sop_hyp_vit,
        in_shop_hyp_vit,
        sop_lora,
        frozen_head,
    )
}
EXPERIMENTS = config.EXPERIMENTS | RECIPES
