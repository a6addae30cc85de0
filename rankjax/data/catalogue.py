"""The field's benchmarks, each by the protocol that its papers report."""

from dataclasses import dataclass
from typing import NamedTuple

from rankjax.data.splits import Counts, Protocol


class Preprocessing(NamedTuple):
    """What papers feed their networks.

    Attributes:
      resize: the short side is resized to so many pixels.
      height, width: of the crop, in the centre for evaluation.
    """

    resize: int
    height: int
    width: int


_PHOTO = Preprocessing(256, 224, 224)
_PERSON = Preprocessing(128, 256, 128)


@dataclass(frozen=True)
class Entry:
    """A data set that goes by a name.

    Attributes:
      name: what the user types.
      source: who made it and where it is had.
      split: the rule, in words.
      protocol: of its evaluation; see `Dataset`.
      recall_at: the values of K that papers report.
      preprocessing: of its papers.
      licence: in short; the source has the words that count.
      counts: images and classes of `train` (validation included), `test`, `gallery` and
        `all`, which a prepared data set must have; None where no paper says.
      files: archives to fetch by hand, which are read without TensorFlow. An archive
        that is unpacked into a folder of its name will do too.
      tfds: TFDS's own builder, which needs TensorFlow to prepare; None if it has none
        that is of use.
      downloads: whether that builder finds its source where it looks.
      tfds_splits: the splits of that builder to train on and to test on, of which the
        latter is to lose the super-classes of the former; None for its train and test.
      super_key: the feature of TFDS's builder that is the super-class.
      channels: 1 for grey.
    """

    name: str
    source: str
    split: str
    licence: str
    counts: Counts
    files: tuple[str, ...] = ()
    protocol: Protocol = "leave-one-out"
    recall_at: tuple[int, ...] = (1, 2, 4, 8)
    preprocessing: Preprocessing = _PHOTO
    tfds: str | None = None
    downloads: bool = True
    tfds_splits: tuple[str, str] | None = None
    super_key: str | None = None
    channels: int = 3


_RESEARCH = "for research that is not commercial"
_HALVES = "first half of the classes to train, second half to test"
_MNIST = tuple(
    f"{part}-{kind}-ubyte.gz"
    for part in ("train", "t10k")
    for kind in ("images-idx3", "labels-idx1")
)


_HAN_FONTS = tuple(
    f"expo-google-fonts-{font}.tgz"
    for font in (
        *("ma-shan-zheng-0.4.3", "zcool-kuaile-0.4.2", "zcool-xiaowei-0.4.1"),
        *("zcool-qingke-huangyou-0.4.1", "zhi-mang-xing-0.4.1", "yuji-syuku-0.4.1"),
        *("dela-gothic-one-0.4.1", "dotgothic16-0.4.1", "hachi-maru-pop-0.4.1"),
        *("yusei-magic-0.4.2", "potta-one-0.4.1", "rocknroll-one-0.4.1"),
        *("reggae-one-0.4.1", "yomogi-0.4.1", "klee-one-0.4.1"),
        *("kaisei-decol-0.4.1", "stick-0.4.1"),
    )
)


def _mnist_like(name: str, source: str, licence: str, train: int) -> Entry:
    return Entry(
        name,
        source,
        "classes 0-4 to train, 5-9 to test, of its train and test files together",
        licence,
        {"train": (train, 5), "test": (70_000 - train, 5)},
        _MNIST,
        preprocessing=Preprocessing(28, 28, 28),
        tfds=name,
        channels=1,
    )


_ENTRIES = (
    Entry(
        "cub",
        "CUB-200-2011, Wah et al. 2011, https://data.caltech.edu/records/65de6-vp158",
        f"{_HALVES}: 1-100 and 101-200, as Oh Song et al., CVPR 2016",
        _RESEARCH,
        {"train": (5_864, 100), "test": (5_924, 100)},
        ("CUB_200_2011.tgz",),
        tfds="caltech_birds2011",
    ),
    Entry(
        "cars",
        "Cars-196, Krause et al. 2013; its own site is gone, copies are on Kaggle",
        f"{_HALVES}: 1-98 and 99-196, as Oh Song et al., CVPR 2016",
        _RESEARCH,
        {"train": (8_054, 98), "test": (8_131, 98)},
        (
            *("cars_train.tgz", "cars_test.tgz"),
            *("car_devkit.tgz", "cars_test_annos_withlabels.mat"),
        ),
        tfds="cars196",
        downloads=False,
    ),
    Entry(
        "sop",
        "Stanford Online Products, Oh Song et al., CVPR 2016, "
        "ftp://cs.stanford.edu/cs/cvgl/Stanford_Online_Products.zip",
        "official, Ebay_train.txt and Ebay_test.txt",
        _RESEARCH,
        {"train": (59_551, 11_318), "test": (60_502, 11_316)},
        ("Stanford_Online_Products.zip",),
        recall_at=(1, 10, 100, 1000),
        tfds="stanford_online_products",
        super_key="super_class_id",
    ),
    Entry(
        "in_shop",
        "DeepFashion In-Shop Clothes Retrieval, Liu et al., CVPR 2016, "
        "https://mmlab.ie.cuhk.edu.hk/projects/DeepFashion/InShopRetrieval.html",
        "official, list_eval_partition.txt: train, query and gallery",
        f"{_RESEARCH}, on request",
        {
            "train": (25_882, 3_997),
            "test": (14_218, 3_985),
            "gallery": (12_612, 3_985),
        },
        ("img.zip", "list_eval_partition.txt"),
        protocol="query-gallery",
        recall_at=(1, 10, 20, 30, 40, 50),
    ),
    Entry(
        "omniglot",
        "Omniglot, Lake et al., Science 2015, https://github.com/brendenlake/omniglot",
        "30 background alphabets to train, 20 evaluation alphabets to test",
        "MIT",
        {"train": (19_280, 964), "test": (13_180, 659)},
        ("images_background.zip", "images_evaluation.zip"),
        preprocessing=Preprocessing(28, 28, 28),
        tfds="omniglot",
        super_key="alphabet",
        channels=1,
    ),
    Entry(
        "omniglot_small",
        "Omniglot's small archives, https://github.com/brendenlake/omniglot, in python",
        "the five alphabets of small1 to train, the three only in small2 to test",
        "MIT",
        {"train": (2_720, 136), "test": (2_120, 106)},
        ("images_background_small1.zip", "images_background_small2.zip"),
        preprocessing=Preprocessing(28, 28, 28),
        tfds="omniglot",
        tfds_splits=("small1", "small2"),
        super_key="alphabet",
        channels=1,
    ),
    Entry(
        "flowers",
        "Oxford 102 Flowers, Nilsback and Zisserman 2008, "
        "https://www.robots.ox.ac.uk/~vgg/data/flowers/102/",
        f"{_HALVES}: 1-51 and 52-102",
        "of each photograph's owner",
        {"train": (None, 51), "test": (None, 51), "all": (8_189, 102)},
        ("102flowers.tgz", "imagelabels.mat"),
        tfds="oxford_flowers102",
    ),
    Entry(
        "lfw",
        "Labeled Faces in the Wild, Huang et al. 2007, http://vis-www.cs.umass.edu/lfw/",
        "people in the 6,000 pairs of pairs.txt to test, all others to train",
        _RESEARCH,
        {"all": (13_233, 5_749)},
        ("lfw.tgz", "pairs.txt"),
        protocol="verification",
        preprocessing=Preprocessing(250, 224, 224),
    ),
    Entry(
        "market1501",
        "Market-1501, Zheng et al., ICCV 2015, "
        "https://zheng-lab.cecs.anu.edu.au/Project/project_reid.html",
        "official: bounding_box_train, query and bounding_box_test, in which -1 is "
        "junk and 0000 are distractors",
        _RESEARCH,
        {"train": (12_936, 751), "test": (3_368, 750), "gallery": (19_732, 752)},
        ("Market-1501-v15.09.15.zip",),
        protocol="reid",
        recall_at=(1, 5, 10),
        preprocessing=_PERSON,
    ),
    Entry(
        "dukemtmc",
        "DukeMTMC-reID, Ristani et al. 2016, Zheng et al., ICCV 2017; withdrawn by its "
        "makers in 2019, for the consent of those shown: for old copies only",
        "official: bounding_box_train, query and bounding_box_test",
        f"{_RESEARCH}; withdrawn",
        {"train": (16_522, 702), "test": (2_228, 702), "gallery": (17_661, 1_110)},
        ("DukeMTMC-reID.zip",),
        protocol="reid",
        recall_at=(1, 5, 10),
        preprocessing=_PERSON,
    ),
    *(
        Entry(
            name,
            f"{city} Buildings, Philbin et al., {found}, lists of Radenovic et al. "
            f"(Revisited {city}), CVPR 2018, https://github.com/filipradenovic/revisitop",
            "nothing to train; 70 queries, and lists of each in the pickle file",
            "of each photograph's owner",
            {"train": (0, 0), "test": (70, None), "gallery": (gallery, None)},
            ("jpg", f"gnd_{name}.pkl"),
            protocol="revisited",
            recall_at=(1, 5, 10),
            preprocessing=Preprocessing(1024, 1024, 1024),
        )
        for name, city, found, gallery in (
            ("roxford5k", "Oxford", "CVPR 2007", 4_993),
            ("rparis6k", "Paris", "CVPR 2008", 6_322),
        )
    ),
    Entry(
        "inaturalist",
        "iNaturalist 2018, Van Horn et al., CVPR 2018, "
        "https://github.com/visipedia/inat_comp/tree/master/2018; lists of Brown et "
        "al. (Smooth-AP), ECCV 2020, https://github.com/Andrew-Brown1/Smooth_AP",
        "open set, Inaturalist_train_set1.txt and Inaturalist_test_set1.txt",
        _RESEARCH,
        {"train": (325_846, 5_690), "test": (136_093, 2_452)},
        (
            "train_val2018.tar.gz",
            *("Inaturalist_train_set1.txt", "Inaturalist_test_set1.txt"),
        ),
        recall_at=(1, 4, 16, 32),
    ),
    Entry(
        "cifar100",
        "CIFAR-100, Krizhevsky 2009, https://www.cs.toronto.edu/~kriz/cifar.html",
        f"{_HALVES}: 0-49 and 50-99, of its train and test files together",
        "none stated",
        {"train": (30_000, 50), "test": (30_000, 50)},
        ("cifar-100-binary.tar.gz",),
        preprocessing=Preprocessing(32, 32, 32),
        tfds="cifar100",
        super_key="coarse_label",
    ),
    _mnist_like(
        "mnist",
        "MNIST, LeCun et al. 1998, https://storage.googleapis.com/cvdf-datasets/mnist/",
        "CC BY-SA 3.0",
        35_735,
    ),
    _mnist_like(
        "fashion_mnist",
        "Fashion-MNIST, Xiao et al. 2017, "
        "https://github.com/zalandoresearch/fashion-mnist",
        "MIT",
        35_000,
    ),
    _mnist_like(
        "kmnist",
        "Kuzushiji-MNIST, Clanuwat et al. 2018, http://codh.rois.ac.jp/kmnist/",
        "CC BY-SA 4.0",
        35_000,
    ),
    Entry(
        "icons",
        "Iconify's sets in npm's @iconify/json 2.2.535, an icon of each set of a name: "
        "npm pack @iconify/json@2.2.535",
        "45% of the names to train, 5% to validate, 50% to test, fixed",
        "of each set: MIT, Apache, CC BY and others that permit changes",
        {"train": (22_918, 1_544), "test": (22_846, 1_544)},
        ("iconify-json-2.2.535.tgz",),
        preprocessing=Preprocessing(64, 64, 64),
        channels=1,
    ),
    Entry(
        "han",
        "17 fonts of npm's @expo-google-fonts, each a package that npm pack fetches, "
        "such as @expo-google-fonts/klee-one@0.4.1",
        "45% of the characters to train, 5% to validate, 50% to test, fixed",
        "of the fonts: OFL 1.1",
        {"train": (49_221, 3_338), "test": (49_204, 3_339)},
        _HAN_FONTS,
        preprocessing=Preprocessing(48, 48, 48),
        channels=1,
    ),
    *(
        Entry(
            f"glyphs/{level}",
            "drawn from the fonts that come with matplotlib; nothing is downloaded",
            "45% of the characters to train, 5% to validate, 50% to test, fixed",
            "of the fonts: Bitstream Vera, STIX, BaKoMa; images are not passed on",
            {},  # other releases of matplotlib may have other fonts
            preprocessing=Preprocessing(32, 32, 32),
            channels=1,
        )
        for level in ("clean", "lite", "pose", "clutter", "modes")
    ),
    Entry(
        "digits",
        "8 x 8 digits of UCI, which come with scikit-learn",
        "classes 0-4 to train, 5-9 to test",
        "CC BY 4.0",
        {"train": (901, 5), "test": (896, 5)},
        preprocessing=Preprocessing(8, 8, 8),
        channels=1,
    ),
)
CATALOGUE: dict[str, Entry] = {entry.name: entry for entry in _ENTRIES}
"""What is known of each benchmark, by the name that `load` takes."""
