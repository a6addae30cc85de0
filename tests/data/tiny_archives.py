"""Archives of a few images in the layouts of the field's benchmarks.

Every maker fills a folder and returns what must be found in it: for each split, a row
for each image of class name, class number, image number, super-class and camera. An
image's colour says its class number and its own number, so that images which are
swapped are noticed.
"""

import gzip
import io
import pickle
import tarfile
import zipfile

import numpy as np
from PIL import Image
from scipy.io import savemat


def picture(label, number, kind="JPEG", mode="RGB"):
    """A file of one colour: red is 10 x label, green 10 x number."""
    file = io.BytesIO()
    image = Image.new("RGB", (24, 20), (10 * label, 10 * number, 0))
    if mode == "L":
        image = image.getchannel(0)
    options = {"quality": 95, "subsampling": 0} if kind == "JPEG" else {}
    image.save(file, kind, **options)
    return file.getvalue()


def write_zip(path, files):
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)


def write_tgz(path, files):
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))


def cub(folder):
    files, found = {"CUB_200_2011/README": b"birds"}, {"train": [], "test": []}
    for number, label in enumerate((1, 100, 101, 200)):
        name = f"{label:03d}.Bird_{label}"
        for image in range(3):
            path = f"CUB_200_2011/images/{name}/Bird_{label}_{image:04d}_{label}.jpg"
            files[path] = picture(number, image)
            split = "train" if label <= 100 else "test"
            found[split].append((name, number, image, "", -1))
    files["CUB_200_2011/images.txt"] = _lines(
        f"{i + 1} {path[20:]}" for i, path in enumerate(list(files)[1:])
    )
    files["CUB_200_2011/train_test_split.txt"] = _lines(
        f"{i + 1} {i % 2}" for i in range(12)
    )
    files["CUB_200_2011/bounding_boxes.txt"] = _lines(
        f"{i + 1} 2.0 3.0 20.0 15.0" for i in range(12)
    )
    write_tgz(folder / "CUB_200_2011.tgz", files)
    return found


def cars(folder):
    """Both of its own splits have classes of either half."""
    found = {"train": [], "test": []}
    classes = {"train": [1, 1, 98, 99, 99, 196], "test": [1, 98, 98, 99, 196, 196]}
    numbers, seen = {1: 0, 98: 1, 99: 2, 196: 3}, dict.fromkeys((1, 98, 99, 196), 0)
    for part, labels in classes.items():
        files = {}
        for i, label in enumerate(labels):
            files[f"cars_{part}/{i + 1:05d}.jpg"] = picture(numbers[label], seen[label])
            split = "train" if label <= 98 else "test"
            row = (f"{label:03d}", numbers[label], seen[label], "", -1)
            found[split].append(row)
            seen[label] += 1
        write_tgz(folder / f"cars_{part}.tgz", files)
    write_tgz(
        folder / "car_devkit.tgz",
        {"devkit/cars_train_annos.mat": _annotations(classes["train"])},
    )
    file = folder / "cars_test_annos_withlabels.mat"
    file.write_bytes(_annotations(classes["test"]))
    return found


def _annotations(labels):
    names = ("bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2", "class", "fname")
    rows = np.empty((1, len(labels)), [(name, "O") for name in names])
    for i, label in enumerate(labels):
        rows[0, i] = (1, 2, 20, 15, label, f"{i + 1:05d}.jpg")
    file = io.BytesIO()
    savemat(file, {"annotations": rows})
    return file.getvalue()


def sop(folder):
    files, found, number = {}, {"train": [], "test": []}, 0
    for split, labels in (("train", (2, 10)), ("test", (11319, 22634))):
        lines = ["image_id class_id super_class_id path"]
        for place, label in enumerate(labels):
            group = ("bicycle", "chair")[place]
            for image in range(3):
                path = f"{group}_final/{111000 + label}_{image}.JPG"
                files[f"Stanford_Online_Products/{path}"] = picture(number, image)
                lines.append(f"{len(lines)} {label} {place + 1} {path}")
                found[split].append((f"{label:05d}", number, image, group, -1))
            number += 1
        files[f"Stanford_Online_Products/Ebay_{split}.txt"] = _lines(lines)
    write_zip(folder / "Stanford_Online_Products.zip", files)
    return found


def in_shop(folder):
    files, found = {}, {"train": [], "test": [], "gallery": []}
    rows = [
        *[("WOMEN/Dresses", 2, "train"), ("WOMEN/Dresses", 2, "train")],
        *[("MEN/Denim", 3, "train"), ("MEN/Denim", 3, "train")],
        *[("WOMEN/Dresses", 7, "query"), ("WOMEN/Dresses", 7, "gallery")],
        *[("MEN/Denim", 9, "gallery"), ("MEN/Denim", 9, "query")],
        ("MEN/Denim", 9, "gallery"),
    ]
    lines = [str(len(rows)), "image_name item_id evaluation_status"]
    for image, (group, item, part) in enumerate(rows):
        path = f"img/{group}/id_{item:08d}/{image:02d}_1_front.jpg"
        files[path] = picture(item, image)
        lines.append(f"{path}     id_{item:08d}     {part}")
        split = {"query": "test"}.get(part, part)
        found[split].append((f"id_{item:08d}", item, image, group, -1))
    write_zip(folder / "img.zip", files)
    (folder / "list_eval_partition.txt").write_bytes(_lines(lines))
    return found


def omniglot(folder):
    return _omniglot(
        folder,
        {
            "images_background": ("train", ("Greek", "Latin")),
            "images_evaluation": ("test", ("Tibetan",)),
        },
    )


def omniglot_small(folder):
    """Latin is in both archives: to train."""
    return _omniglot(
        folder,
        {
            "images_background_small1": ("train", ("Greek", "Latin")),
            "images_background_small2": ("test", ("Latin", "Tagalog")),
        },
    )


def _omniglot(folder, archives):
    found = {"train": [], "test": []}
    number = {"Greek": 0, "Latin": 2, "Tibetan": 4, "Tagalog": 4}
    seen = set()
    for name, (split, alphabets) in archives.items():
        files = {}
        for alphabet in alphabets:
            for character in range(2):
                label = number[alphabet] + character
                for image in range(2):
                    path = f"{alphabet}/character{character + 1:02d}"
                    file = f"{name}/{path}/{label:04d}_{image + 1:02d}.png"
                    files[file] = picture(label, 0, "PNG", "L")
                    if alphabet not in seen:
                        found[split].append((path, label, 0, alphabet, -1))
        seen.update(alphabets)
        write_zip(folder / f"{name}.zip", files)
    return found


def flowers(folder):
    labels, files, found = [77, 1, 51, 52, 1, 51, 52, 77], {}, {"train": [], "test": []}
    for i, label in enumerate(labels):
        files[f"jpg/image_{i + 1:05d}.jpg"] = picture(label % 20, i)
        split = "train" if label <= 51 else "test"
        found[split].append((f"{label:03d}", label % 20, i, "", -1))
    write_tgz(folder / "102flowers.tgz", files)
    savemat(folder / "imagelabels.mat", {"labels": np.array([labels])})
    return found


def lfw(folder):
    people = {"Ann_Li": 2, "Bo": 2, "Cy_Doe": 2, "Dan": 1, "Eve": 3, "Flo": 2}
    files, found = {}, {"train": [], "test": []}
    for number, (name, images) in enumerate(people.items()):
        for image in range(images):
            files[f"lfw/{name}/{name}_{image + 1:04d}.jpg"] = picture(number, image)
            split = "train" if name in ("Eve", "Flo") else "test"
            found[split].append((name, number, image, "", -1))
    write_tgz(folder / "lfw.tgz", files)
    rows = ["2\t1", "Ann_Li\t1\t2", "Bo\t2\tDan\t1", "Bo\t2\t1", "Cy_Doe\t2\tDan\t1"]
    (folder / "pairs.txt").write_bytes(_lines(rows))
    return found


def market1501(folder):
    return _reid(folder / "Market-1501-v15.09.15.zip", "{:04d}_c{}s1_{:06d}_01.jpg")


def dukemtmc(folder):
    return _reid(folder / "DukeMTMC-reID.zip", "{:04d}_c{}_f{:07d}.jpg")


def _reid(path, template):
    """Persons 2 and 7 to train, 1 and 3 to test, junk -1 and distractors 0."""
    rows = [
        *[("bounding_box_train", p, c) for p in (2, 7) for c in (1, 2)],
        *[("query", 1, 1), ("query", 3, 2)],
        *[("bounding_box_test", p, c) for p in (-1, 0, 1, 3) for c in (1, 6)],
    ]
    splits = {"bounding_box_train": "train", "query": "test"}
    files, found = {}, {"train": [], "test": [], "gallery": []}
    for image, (folder, person, camera) in enumerate(rows):
        name = template.format(person, camera, image).replace("-001", "-1")
        file = f"{path.stem}/{folder}/{name}"
        files[file] = picture(person + 1, image)
        label = "-1" if person < 0 else f"{person:04d}"
        found[splits.get(folder, "gallery")].append(
            (label, person + 1, image, "", camera)
        )
    write_zip(path, files | {f"{path.stem}/bounding_box_test/Thumbs.db": b"no image"})
    return found


def inaturalist(folder):
    files, found, lists = {}, {"train": [], "test": []}, {"train": [], "test": []}
    classes = [("Aves", 21), ("Fungi", 5), ("Aves", 3), ("Fungi", 8), ("Aves", 99)]
    for number, (group, label) in enumerate(classes):
        split = (*("train", "test") * 2, None)[number]
        for image in range(2):
            path = f"train_val2018/{group}/{label}/{number}{image}.jpg"
            files[path] = picture(number, image)
            if split:
                lists[split].append(path)
                found[split].append((f"{group}/{label}", number, image, group, -1))
    write_tgz(folder / "train_val2018.tar.gz", files)
    for split, lines in lists.items():
        (folder / f"Inaturalist_{split}_set1.txt").write_bytes(_lines(lines))
    return found


def roxford5k(folder, name="roxford5k", tag="all_souls"):
    """Query 0 finds images 2 and 1, query 1 image 3; outside their boxes is black."""
    found = {"train": [], "test": [], "gallery": []}
    (folder / "jpg").mkdir()
    for split, images in (("test", (5, 6)), ("gallery", (2, 0, 3, 1))):
        for image in images:
            whole = Image.new("RGB", (24, 20))
            box = (0, 0, 8, 8) if split == "test" else (0, 0, 24, 20)
            whole.paste((30, 10 * image, 0), box)
            whole.save(folder / f"jpg/{tag}_{image:06d}.jpg", quality=95, subsampling=0)
            found[split].append((tag, 3, image, "", -1))
    names = {
        split: [f"{tag}_{row[2]:06d}" for row in rows] for split, rows in found.items()
    }
    known = [
        {"easy": [0], "hard": [3], "junk": [1]},
        {"easy": [], "hard": [2], "junk": [0, 3]},
    ]
    boxes = [{"bbx": [0.2, 0.4, 8.3, 7.6]}, {"bbx": [0, 0, 8, 8]}]
    truth = {"imlist": names["gallery"], "qimlist": names["test"]}
    truth["gnd"] = [lists | box for lists, box in zip(known, boxes, strict=True)]
    (folder / f"gnd_{name}.pkl").write_bytes(pickle.dumps(truth, protocol=2))
    return found


def rparis6k(folder):
    return roxford5k(folder, "rparis6k", "paris_defense")


def cifar100(folder):
    name, found = "cifar-100-binary", {"train": [], "test": []}
    files = {
        f"{name}/coarse_label_names.txt": _lines(f"coarse{i}" for i in range(20)),
        f"{name}/fine_label_names.txt": _lines(f"fine{i}" for i in range(100)),
    }
    for part, labels in (("train", (0, 49, 50, 99, 0)), ("test", (99, 0, 49, 50))):
        records = []
        for image, label in enumerate(labels):
            number = label % 7
            planes = [np.full(1024, 10 * value) for value in (number, image, 0)]
            records.append(np.concatenate([[label % 20, label], *planes]))
            split = "train" if label < 50 else "test"
            row = f"{label:02d} fine{label}", number, image, f"coarse{label % 20}", -1
            found[split].append(row)
        files[f"{name}/{part}.bin"] = np.array(records, np.uint8).tobytes()
    write_tgz(folder / f"{name}.tar.gz", files)
    return found


def mnist(folder):
    found = {"train": [], "test": []}
    for part, labels in (("train", (9, 0, 4, 5)), ("t10k", (0, 4, 5, 9, 9))):
        images = np.repeat(np.array(labels, np.uint8) * 10, 28 * 28)
        shape = np.array([0x803, len(labels), 28, 28], ">i4").tobytes()
        heading = np.array([0x801, len(labels)], ">i4").tobytes()
        for kind, content in (
            ("images-idx3", shape + images.tobytes()),
            ("labels-idx1", heading + bytes(labels)),
        ):
            file = folder / f"{part}-{kind}-ubyte.gz"
            file.write_bytes(gzip.compress(content))
        for label in labels:
            found["train" if label < 5 else "test"].append(
                (str(label), label, 0, "", -1)
            )
    return found


fashion_mnist = kmnist = mnist


def _lines(lines):
    return ("\n".join(lines) + "\n").encode()
