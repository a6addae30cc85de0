import io
import json
import os
import re
import socket
import struct
import threading
import time
import urllib.error
import urllib.request
import zipfile
from contextlib import suppress
from dataclasses import replace

import chromium
import numpy as np
import pytest
from PIL import Image

from experiments.embed import main as embed
from experiments.search import index as index_module
from experiments.search import server as module
from experiments.search.__main__ import main
from experiments.search.approximate import open_backend, recall
from experiments.search.index import Index, QueryEmbedder, answers, read_index
from experiments.search.server import hosts_of, make_server
from rankjax.errors import RunError, UsageError
from rankjax.metrics import Neighbours

pytestmark = pytest.mark.xdist_group("use")


def _unit(rng, n, dim):
    rows = rng.normal(size=(n, dim)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.fixture
def random_index(tmp_path):
    file = tmp_path / "random.npz"
    file.touch()
    rows = _unit(np.random.default_rng(0), 300, 8)
    return Index(file, rows, [f"/{i}" for i in range(300)], None, {})


@pytest.fixture(scope="module")
def served(index):
    """The server of the photos, and its address."""
    searched = read_index(index)
    embed = QueryEmbedder(searched)
    with make_server(searched, searched.exact, embed, k=6, port=0) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server, f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def _ask(url, content=None, **headers):
    """Status, headers and body of an answer."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    request = urllib.request.Request(url, content, named)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers, error.read()


def _png(*shape, mode="L"):
    buffer = io.BytesIO()
    Image.new(mode, shape).save(buffer, "PNG")
    return buffer.getvalue()


def test_an_image_of_the_index_finds_itself_then_the_largest_cosines(
    index, photos, capsys
):
    query = sorted(photos.rglob("*.png"))[17]
    assert main([str(index), str(query), "--k", "5", "--json"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    found = json.loads(line)
    with np.load(index) as arrays:
        rows = arrays["embeddings"].astype(np.float64)
        cosines = rows @ rows[17]
        order = np.argsort(-cosines)[:5]
        names = arrays["class_names"][arrays["labels"][order]].tolist()
        paths = arrays["paths"][order].tolist()
    assert found["query"] == str(query)
    assert [each["path"] for each in found["neighbours"]] == paths
    assert [each["label"] for each in found["neighbours"]] == names
    similarities = [each["similarity"] for each in found["neighbours"]]
    np.testing.assert_allclose(similarities, cosines[order], atol=1e-4)
    assert main([str(index), "--k", "2", str(query)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == str(query)
    assert lines[1].split() == ["1", "1.0000", names[0], *paths[0].split()]


def test_what_is_below_the_threshold_is_left_out_and_nothing_may_be_left(
    photos, index, tmp_path, capsys
):
    known, new = str(sorted(photos.rglob("*.png"))[3]), tmp_path / "new.png"
    noise = np.random.default_rng(0).integers(0, 256, (8, 8), np.uint8)
    Image.fromarray(noise).save(new)
    words = [str(index), known, str(new), "--threshold", "0.9999"]
    assert main(words) == 0
    said = capsys.readouterr().out.splitlines()
    at = said.index(str(new))
    assert said[0] == known
    assert said[1].split()[:2] == ["1", "1.0000"]
    assert said[at + 1 :] == ["      nothing like it: all below 0.9999"]
    assert main([*words, "--json"]) == 0
    lines = map(json.loads, capsys.readouterr().out.splitlines())
    found = {line["query"]: line["neighbours"] for line in lines}
    assert [each["path"] for each in found[known]][:1] == [known]
    assert found[str(new)] == []
    assert main([*words[:-1], "2"]) == 2
    assert "threshold must be from -1 to 1, got 2" in capsys.readouterr().err


def test_shorter_embeddings_are_the_first_numbers_in_files_searches_and_queries(
    run, photos, index, tmp_path, capsys
):
    short = tmp_path / "short.npz"
    assert embed([str(run), str(photos), "--dim", "4", "--out", str(short)]) == 0
    with np.load(index) as whole, np.load(short) as first:
        expected = whole["embeddings"][:, :4].astype(np.float64)
        expected /= np.linalg.norm(expected, axis=1, keepdims=True)
        np.testing.assert_allclose(first["embeddings"], expected, atol=1e-5)
    query = str(sorted(photos.rglob("*.png"))[17])
    order = np.argsort(-(expected @ expected[17]))[:3].tolist()
    for words in ([str(short)], [str(index), "--dim", "4"]):
        capsys.readouterr()
        assert main([*words, query, "--k", "3", "--json"]) == 0
        found = json.loads(capsys.readouterr().out)["neighbours"]
        assert [each["row"] for each in found] == order
    with pytest.raises(UsageError, match=r"dim must be from 1 to 64, .*, got 65"):
        read_index(index).shortened(65)


def test_an_index_of_any_framework_is_compared_by_cosine(tmp_path):
    file = tmp_path / "x.npz"
    np.savez(file, embeddings=np.array([[3.0, 0], [0, 0.1], [1, 1]]), paths=list("abc"))
    index = read_index(file)
    found = index.exact(np.array([[0, 1]], np.float32), 3)
    assert found.rows.tolist() == [[1, 2, 0]]
    np.testing.assert_allclose(found.similarities, [[1, 0.5**0.5, 0]], atol=1e-6)
    with pytest.raises(UsageError, match="--network"):
        QueryEmbedder(index)


@pytest.mark.parametrize("backend", ["faiss", "hnswlib", "usearch"])
def test_other_libraries_find_nearly_what_exact_search_finds(backend, random_index):
    pytest.importorskip(backend)
    find = open_backend(backend, random_index)
    queries = _unit(np.random.default_rng(1), 20, 8)
    found, exact = find(queries, 10), random_index.exact(queries, 10)
    same = [
        len(np.intersect1d(*rows)) for rows in zip(found.rows, exact.rows, strict=True)
    ]
    assert sum(same) / 200 > 0.95
    products = queries @ random_index.embeddings.T
    np.testing.assert_allclose(
        found.similarities, np.take_along_axis(products, found.rows, 1), atol=1e-5
    )
    assert recall(find, random_index, 10)[0] > 0.95
    file = random_index.file.with_name(f"random.npz.{backend}")
    built = file.stat().st_mtime_ns
    open_backend(backend, random_index)
    assert file.stat().st_mtime_ns == built
    os.utime(random_index.file, (built / 1e9 + 10,) * 2)
    open_backend(backend, random_index)
    assert file.stat().st_mtime_ns > built
    assert sorted(random_index.file.parent.iterdir()) == [random_index.file, file]


@pytest.mark.parametrize("backend", ["faiss", "hnswlib", "usearch"])
@pytest.mark.parametrize("queries", [1, 3])
def test_where_fewer_than_k_are_found_there_are_fewer(backend, queries, random_index):
    pytest.importorskip(backend)
    alike = replace(random_index, embeddings=np.full((300, 8), 8**-0.5, np.float32))
    found = open_backend(backend, alike)(alike.embeddings[:queries], 300)
    assert found.rows.shape == found.similarities.shape == (queries, 300)
    there = found.rows >= 0
    assert there.any(1).all()
    np.testing.assert_allclose(found.similarities[there], 1, rtol=1e-6)
    listed = list(answers(alike, found))
    assert [len(rows) for rows in listed] == there.sum(1).tolist()


def test_a_network_of_another_dimension_is_one_line(run, tmp_path, capsys):
    file, words = tmp_path / "x.npz", ["--network", str(run)]  # fewer than 10
    np.savez(file, embeddings=np.eye(3), paths=np.array(list("abc")))
    for mode in ([__file__], ["--serve"]):
        assert main([str(file), *mode, *words]) == 2
        said = capsys.readouterr().err
        assert f"{file} has 3 dimensions, embeddings of {run} have 64" in said
        assert said.count("\n") == 1


def test_a_query_whose_embedding_is_not_finite_is_one_line(index, photos, monkeypatch):
    embed = QueryEmbedder(read_index(index))
    none = np.full((1, 64), np.nan)
    monkeypatch.setattr(index_module, "embed_views", lambda *_, **__: [none])
    with pytest.raises(RunError, match="embedding of an image is not finite"):
        embed([str(next(photos.rglob("*.png")))])


def test_rows_of_any_length_are_compared_by_cosine(tmp_path):
    file = tmp_path / "x.npz"
    rows = np.array([[3, 4], [3e-300, 4e-300], [-6e300, 8e300], [0, 0]])
    np.savez(file, embeddings=rows, paths=np.array(list("abcd")))
    expected = [[0.6, 0.8], [0.6, 0.8], [-0.6, 0.8], [0, 0]]
    np.testing.assert_allclose(read_index(file).embeddings, expected, rtol=1e-6)


def test_recall_is_the_share_of_the_nearest_that_is_found(random_index):
    def first_half(queries, k):
        exact = random_index.exact(queries, k)
        rows = np.where(np.arange(k) < k // 2, exact.rows, -1)
        return Neighbours(rows, exact.similarities)

    assert recall(first_half, random_index, 4) == (0.5, 300)
    assert recall(random_index.exact, random_index, 4) == (1.0, 300)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["missing.npz", "--serve"], "there is no index"),
        (["{index}"], "give a QUERY"),
        ([os.path.dirname(__file__), "x.png"], "an index is a file: experiments.embed"),
        (["{index}", "{index}", "--k", "51"], "k must be from 1 to 50"),
        (["{index}", "{index}"], "cannot read the image"),
        (["{index}", "nothing*"], "means no image"),
        ([__file__, "--serve"], "no .npz file"),
    ],
)
def test_what_cannot_be_searched_is_one_line(index, capsys, words, message):
    status = main([word.format(index=index) for word in words])
    said = capsys.readouterr().err
    assert status in (1, 2)
    assert message in said
    assert said.count("\n") == 1


def test_paths_that_are_not_there_are_counted(run, photos, tmp_path, capsys):
    file, query = tmp_path / "x.npz", str(sorted(photos.rglob("*.png"))[3])
    paths = np.array(["gone.png", query, "lost.png"])
    np.savez(file, embeddings=np.eye(3, 64), paths=paths)
    assert main([str(file), query, "--network", str(run)]) == 0
    said = capsys.readouterr().err
    gone = tmp_path / "gone.png"
    assert said == f"{file}: of the first 3 paths 2 are not there, such as {gone}\n"


def test_an_index_says_which_network_is_missing(index, tmp_path):
    read = read_index(index)
    moved = read.job | {"network": str(tmp_path / "moved")}
    for job, said in (
        (moved, rf"by {tmp_path / 'moved'}, which is not there; give --network RUN$"),
        ({}, "does not say by which network it was made; give --network RUN"),
    ):
        with pytest.raises((RunError, UsageError), match=said):
            QueryEmbedder(Index(read.file, read.embeddings, read.paths, None, job))


def test_an_index_of_a_network_that_was_trained_on_is_refused(index):
    read = read_index(index)
    older = Index(read.file, read.embeddings, read.paths, None, read.job | {"step": 3})
    with pytest.raises(RunError, match="at step 3, which is at step 5 now"):
        QueryEmbedder(older)


@pytest.mark.parametrize("form", ["AVIF", "JPEG2000", "PPM"])
def test_an_upload_may_be_of_every_format_that_is_read(served, form):
    _, url = served
    buffer = io.BytesIO()
    Image.new("RGB", (32, 32), "red").save(buffer, form)
    status, *_ = _ask(f"{url}/search", buffer.getvalue(), Content_Type="image/x")
    assert status == 200


def test_an_uploaded_image_is_answered_with_its_neighbours(served, photos, index):
    _, url = served
    query = sorted(photos.rglob("*.png"))[3]
    status, headers, body = _ask(
        f"{url}/search", query.read_bytes(), Content_Type="image/png", Origin=url
    )
    assert status == 200
    found = json.loads(body)["neighbours"]
    assert len(found) == 50  # all
    assert found[0] == {
        "row": 3,
        "similarity": 1.0,
        "label": "数字0",
        "path": f"{query.parent.name}/{query.name}",
    }
    assert headers["X-Content-Type-Options"] == "nosniff"
    about = json.loads(_ask(f"{url}/about")[2])
    examples = about.pop("examples")
    assert about == {"images": 50, "classes": 5, "k": 6, "least": -1}
    assert sorted(each["label"] for each in examples) == [f"数字{i}" for i in range(5)]


def test_a_row_is_answered_with_its_neighbours_beside_itself(served, index):
    _, url = served
    status, _, body = _ask(f"{url}/near/7")
    assert status == 200
    answer = json.loads(body)
    rows = read_index(index).embeddings
    cosines = rows @ rows[7]
    order = [int(row) for row in np.argsort(-cosines, kind="stable") if row != 7]
    assert answer["query"]["row"] == 7
    assert [each["row"] for each in answer["neighbours"]] == order
    found = [each["similarity"] for each in answer["neighbours"]]
    np.testing.assert_allclose(found, cosines[order], atol=1e-4)
    assert _ask(f"{url}/near/50")[0] == 404


def test_the_page_may_load_nothing_from_elsewhere(served):
    _, url = served
    status, headers, body = _ask(url)
    assert status == 200
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert not re.search(r"unsafe|http|\*", policy)
    for path in ("/base.css", "/page.css", "/page.js"):
        assert path.encode() in body
        assert _ask(url + path)[0] == 200
    for path in ("", "/base.css", "/page.css", "/page.js"):
        assert b"http" not in _ask(url + path)[2]


def test_images_are_shown_small_and_by_their_number_alone(served, photos):
    _, url = served
    status, headers, body = _ask(f"{url}/image/49")
    assert (status, headers["Content-Type"]) == (200, "image/jpeg")
    with Image.open(io.BytesIO(body)) as image:
        assert max(image.size) <= 320
    paths = ("50", "-1", "1/..", "../../etc/passwd", "%2e%2e/page.js", "²", "")
    for path in (*(f"/image/{name}" for name in paths), "/../server.py", "/server.py"):
        quoted = urllib.request.quote(path, safe="/%.")
        assert _ask(url + quoted)[0] == 404, path


def test_port_80_goes_without_saying():
    assert hosts_of(["localhost"], 80) == {"localhost", "localhost:80"}
    assert hosts_of(["Host"], 8000) == {"host:8000"}


def test_another_host_name_or_origin_is_refused(served):
    server, url = served
    port = server.server_port
    for host in (f"evil.example:{port}", "localhost", "localhost:1", ""):
        assert _ask(f"{url}/about", Host=host)[0] == 403
    assert _ask(f"{url}/about", Host=f"LOCALHOST:{port}")[0] == 200
    for path, content in (("/about", None), ("/search", _png(8, 8))):
        status, _, body = _ask(
            url + path, content, Origin="http://evil.example", Content_Type="image/png"
        )
        assert status == 403
        assert b"allow-host" in body


@pytest.mark.parametrize(
    ("content", "headers", "status", "words"),
    [
        (
            b"x",
            {"Content_Type": "text/html"},
            415,
            "send an image, with its Content-Type",
        ),
        (b"<svg/>", {"Content_Type": "image/svg+xml"}, 415, "no image of the kinds"),
        (b"", {"Content_Type": "image/png"}, 415, "no image of the kinds"),
        (_png(99, 99)[:-40], {"Content_Type": "image/png"}, 400, "cannot read"),
        (_png(99, 99)[:-40], {"Content_Type": "IMAGE/PNG; x=1"}, 400, "cannot read"),
        (_png(8000, 6251), {"Content_Type": "image/png"}, 413, "50,000,000 pixels"),
        (
            _png(15000, 15000, mode="1"),
            {"Content_Type": "image/png"},
            413,
            "50,000,000 pixels, it has more than 178,956,970",
        ),
        (b"", {"Content_Type": "image/png", "Content_Length": "-1"}, 411, "Length"),
        (
            b"",
            {"Content_Type": "image/png", "Content_Length": "20000001"},
            413,
            "20,000,000 bytes",
        ),
    ],
)
def test_what_is_no_image_or_too_large_is_refused(
    served, content, headers, status, words
):
    _, url = served
    found, _, body = _ask(f"{url}/search", content, **headers)
    assert found == status
    assert words in json.loads(body)["error"]


def _connected(server, head, body=b""):
    """A connection that has sent the start of a request."""
    connection = socket.create_connection(("127.0.0.1", server.server_port), 20)
    host = f"Host: localhost:{server.server_port}\r\n"
    connection.sendall(head.replace("\n", "\r\n" + host, 1).encode() + body)
    return connection


def _answer(connection):
    with connection, connection.makefile("rb") as file:
        return file.read()


def test_files_that_arrive_slowly_hold_up_nobody_and_are_given_up(
    served, photos, monkeypatch
):
    server, url = served
    monkeypatch.setattr(module, "SECONDS", 3)
    head = "POST /search HTTP/1.1\nContent-Type: image/png\nContent-Length: 9999\n\n"
    begun = time.monotonic()
    slow = [_connected(server, head, b"x") for _ in range(8)]
    slow += [_connected(server, "GET /about HTTP/1.1\n") for _ in range(8)]
    query = sorted(photos.rglob("*.png"))[3].read_bytes()
    assert _ask(f"{url}/search", query, Content_Type="image/png")[0] == 200
    for connection in slow[:8]:
        with suppress(OSError):  # a byte now and then earns no more time
            connection.sendall(b"x")
        assert b"408" in _answer(connection).splitlines()[0]
    assert all(_answer(connection) == b"" for connection in slow[8:])
    assert time.monotonic() - begun < 15


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (f"GET /image/{'9' * 5000} HTTP/1.1\n\n", b"404"),
        (f"GET /image/{'0' * 5000}7 HTTP/1.1\n\n", b"200"),
        (f"POST /search HTTP/1.1\nContent-Length: {'9' * 5000}\n@\n", b"413"),
        (f"POST /search HTTP/1.1\nContent-Length: {'9' * 30}\n@\n", b"413"),
        ("POST /search HTTP/1.1\nContent-Length: +5\n@\n", b"411"),
        ("GET /about?x=1 HTTP/1.1\n\n", b"200"),
        ("HEAD / HTTP/1.1\n\n", b"200"),
        ("PUT / HTTP/1.1\n\n", b"405"),
        ("DELETE /about HTTP/1.1\n\n", b"405"),
        ("POST /search HTTP/1.1\nContent-Length: 1_0\n@\n", b"411"),
    ],
)
def test_a_request_is_answered_with_its_status(served, head, status):
    server, _ = served
    connection = _connected(server, head.replace("@", "Content-Type: image/png\n"))
    connection.shutdown(socket.SHUT_WR)
    assert status in _answer(connection).splitlines()[0]


def test_a_file_that_is_too_large_is_answered_though_it_is_sent_whole(served):
    _, url = served
    status, _, body = _ask(f"{url}/search", bytes(21_000_000), Content_Type="image/png")
    assert status == 413
    assert b"may have 20,000,000 bytes" in body


def test_who_hangs_up_leaves_no_traceback(served, capfd):
    server, url = served
    head = "POST /search HTTP/1.1\nContent-Type: image/png\nContent-Length: 9999\n\n"
    for words in (head, "GET /page.js HTTP/1.1\n\n", "GET /about HTTP/1.1\n"):
        connection = _connected(server, words)
        reset = struct.pack("ii", 1, 0)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
        connection.close()
    assert _ask(f"{url}/about")[0] == 200
    assert capfd.readouterr().err == ""


def test_names_on_the_page_do_not_reorder_it_and_pipes_are_no_images(tmp_path):
    file, name = tmp_path / "x.npz", "gpj.\u202egnp"
    os.mkfifo(tmp_path / "pipe.png")
    paths = np.array([name, "pipe.png", "null\0character"])
    labels = np.array(["\u2067a", "b", "c"])
    np.savez(file, embeddings=np.eye(3), paths=paths, labels=labels)
    index = read_index(file)
    searched = module._Searched(index, index.exact, lambda _: np.eye(3)[:1], 1)
    found = searched.near_image(_png(8, 8))["neighbours"][0]
    assert (found["path"], found["label"]) == ("gpj.U+202Egnp", "U+2067a")
    for row in ("1", "2"):
        with pytest.raises(module._RefusedError, match="not there any more"):
            searched.picture(row, 9)


def test_a_port_that_is_no_port_is_one_line(random_index):
    with pytest.raises(UsageError, match="port must be from 0 to 65535, got 99999"):
        make_server(random_index, random_index.exact, None, k=1, port=99999)


EMBEDDINGS, PATHS = np.eye(3, dtype=np.float32), np.array(["a", "b", "c"])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"embeddings": EMBEDDINGS * np.nan}, "embeddings must be finite, got 3 rows"),
        ({"embeddings": EMBEDDINGS.astype(str)}, "must be floating point, got <U32"),
        ({"embeddings": EMBEDDINGS[0]}, "embeddings must have shape"),
        ({"embeddings": None}, "has no embeddings"),
        ({"paths": PATHS[:2]}, r"paths must have shape \(3,\), got \(2,\)"),
        ({"paths": PATHS.astype("S")}, r"paths must be strings, got \|S1"),
        ({"labels": np.arange(2)}, r"labels must have shape \(3,\), got \(2,\)"),
        ({"labels": np.arange(3), "class_names": PATHS[:2]}, "one for each label"),
        ({"labels": np.ones(3), "class_names": PATHS}, "one for each label"),
    ],
)
def test_an_index_whose_arrays_do_not_fit_is_refused(tmp_path, changes, said):
    arrays = {"embeddings": EMBEDDINGS, "paths": PATHS} | changes
    file = tmp_path / "x.npz"
    np.savez(file, **{k: v for k, v in arrays.items() if v is not None})
    with pytest.raises(UsageError, match=said):
        read_index(file)


@pytest.mark.parametrize(
    "comment", [b"x", b"[]", b'{"network": 3}', b'{"network": "x", "step": "1"}']
)
def test_an_index_with_a_comment_of_others_is_refused(tmp_path, comment):
    file = tmp_path / "x.npz"
    np.savez(file, embeddings=EMBEDDINGS, paths=PATHS)
    with zipfile.ZipFile(file, "a") as archive:
        archive.comment = comment
    with pytest.raises(RunError, match="not that of experiments"):
        read_index(file)


def test_a_port_that_is_taken_is_one_line(served, random_index):
    server, _ = served
    with pytest.raises(RunError, match="cannot listen on"):
        make_server(
            random_index, random_index.exact, None, k=1, port=server.server_port
        )


@pytest.mark.skipif(chromium.find() is None, reason="no Chromium on this machine")
def test_a_person_goes_from_an_example_to_its_neighbours_and_theirs(served, tmp_path):
    server, url = served
    near = server.RequestHandlerClass.searched.near_row
    items = "[...document.querySelectorAll('#queries li')]"
    examples = items.replace("queries", "examples")
    rows = f"{items}.map(i => Number(i.querySelector('img').src.split('/').at(-1)))"

    def shown(page, expected):
        page.wait(f"{rows}.join() === '{','.join(map(str, expected))}'", seconds=10)

    with chromium.Page(tmp_path / "profile") as page:

        def set_to(name, value):
            form = "document.querySelector('#controls').oninput()"
            page.evaluate(
                f"document.querySelector('#{name}').value = '{value}'; {form}"
            )

        page.call("Page.navigate", url=url)
        page.wait(f"{examples}.length === 5")
        first = page.evaluate(rows.replace("queries", "examples"))[0]
        page.evaluate(f"{examples}[0].querySelector('a').click()")
        found = near(str(first))["neighbours"]
        shown(page, [each["row"] for each in found[:6]])
        assert page.evaluate("location.search") == f"?row={first}"
        set_to("k", 9)
        shown(page, [each["row"] for each in found[:9]])
        label = found[8]["label"]
        set_to("label", label)
        like = [each for each in found if each["label"] == label]
        shown(page, [each["row"] for each in like[:9]])
        set_to("least", like[1]["similarity"])
        shown(page, [each["row"] for each in like[:2]])
        # An address has all of it; a result is searched from with the same controls.
        page.call("Page.reload")
        page.wait("document.readyState === 'complete'")
        shown(page, [each["row"] for each in like[:2]])
        set_to("least", -1)
        set_to("label", "")
        page.evaluate(f"{items}[0].querySelector('a').click()")
        then = near(str(like[0]["row"]))["neighbours"]
        shown(page, [each["row"] for each in then[:9]])
        copied = (
            "navigator.clipboard.writeText = async text => { window.copied = text }"
        )
        page.evaluate(f"{copied}; {items}[0].querySelectorAll('button')[1].click()")
        assert page.evaluate("window.copied") == then[0]["path"]
        opened = page.evaluate(f"{items}[0].querySelector('[target]').href")
        with Image.open(io.BytesIO(_ask(opened)[2])) as image:
            assert image.format == "JPEG"
        page.evaluate("history.back()")
        shown(page, [each["row"] for each in found[:9]])
        set_to("least", 1.1)
        page.wait("document.querySelector('#queries p').textContent.startsWith('None')")
        assert page.logged == []


@pytest.mark.skipif(chromium.find() is None, reason="no Chromium on this machine")
def test_each_of_several_queries_has_its_row_of_results(served, photos, tmp_path):
    server, url = served
    near = server.RequestHandlerClass.searched.near_row
    script = """[...document.querySelectorAll('#queries section')].map(s => [
        s.querySelector('h2').textContent, s.querySelector('p').textContent,
        ...[...s.querySelectorAll('li img')].map(i => Number(i.src.split('/').at(-1)))])
    """
    files = sorted(photos.rglob("*.png"))

    def expected(row, k, name=None):
        found = near(str(row))
        rows = [each["row"] for each in found["neighbours"]]
        if name:  # a file of one's own finds its copy as well
            rows = [row, *rows]
        said = f"The {k} most similar images, nearest first"
        query = found["query"]
        return [name or f"{query['label']}, {query['path']}", said, *rows[:k]]

    with chromium.Page(tmp_path / "profile") as page:

        def shows(*sections):
            page.wait(f"{script}.length === {len(sections)}", seconds=10)
            page.wait(f"!JSON.stringify({script}).includes('Searching')", seconds=30)
            assert page.evaluate(script) == list(sections)

        def press(selector):
            page.evaluate(f"document.querySelector('{selector}').focus()")
            for kind in ("keyDown", "keyUp"):
                code = {"windowsVirtualKeyCode": 13, "text": "\r"}
                page.call("Input.dispatchKeyEvent", type=kind, key="Enter", **code)

        head = "document.activeElement.textContent"
        page.call("Page.navigate", url=f"{url}/?row=3&row=17&k=4")
        shows(expected(3, 4), expected(17, 4))
        third = near("17")["neighbours"][1]["row"]
        press("section:nth-child(2) li:nth-child(2) button")
        page.wait(f"location.search === '?row=3&row=17&row={third}&k=4'", seconds=5)
        shows(expected(3, 4), expected(17, 4), expected(third, 4))
        assert page.evaluate(head) == expected(third, 4)[0]
        press("section h2 + button")
        shows(expected(17, 4), expected(third, 4))
        assert page.evaluate("location.search") == f"?row=17&row={third}&k=4"
        assert page.evaluate(head) == expected(17, 4)[0]
        page.evaluate("history.back()")
        shows(expected(3, 4), expected(17, 4), expected(third, 4))
        (tmp_path / "no.png").touch()
        page.choose("#file", files[23], files[41], tmp_path / "no.png")
        names = [f"Your image, {files[row].name}" for row in (23, 41)]
        refused = ["Your image, no.png", "Not searched: this is no image of the kinds "]
        script = script.replace(".textContent,\n", ".textContent.split('BMP')[0],\n")
        found = expected(23, 4, names[0]), expected(41, 4, names[1])
        shows(*found, refused)
        # They are not in the address, to which a row of the index is added.
        assert page.evaluate("location.search") == "?k=4"
        press("#examples summary")
        press("#examples li button")
        page.wait("location.search.startsWith('?row=')", seconds=5)
        assert page.evaluate("document.querySelectorAll('section').length") == 4


@pytest.mark.slow
@pytest.mark.skipif(chromium.find() is None, reason="no Chromium on this machine")
def test_a_person_sees_the_neighbours_of_an_image(served, photos, tmp_path):
    _, url = served
    query = sorted(photos.rglob("*.png"))[23]
    with chromium.Page(tmp_path / "profile") as page:
        page.call("Page.navigate", url=url)
        page.wait("document.querySelector('#about')?.textContent.includes('50 images')")
        # The file is chosen by keyboard: the first thing that Tab reaches.
        for kind in ("keyDown", "keyUp"):
            page.call(
                "Input.dispatchKeyEvent",
                type=kind,
                key="Tab",
                code="Tab",
                windowsVirtualKeyCode=9,
            )
        assert page.evaluate("document.activeElement.id") == "file"
        page.choose("#file", query)
        page.wait("document.querySelectorAll('#queries li img').length == 6")
        page.wait("[...document.images].every(i => i.complete && i.naturalWidth)")
        items = page.evaluate(
            "[...document.querySelectorAll('#queries li')].map(x => x.innerText)"
        )
        assert items[0].splitlines() == [
            *("数字2", "cosine 1.000", f"{query.parent.name}/{query.name}"),
            *("open", "add", "copy path"),
        ]
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        dropped = """(() => {
            const moved = new DataTransfer();
            moved.items.add(new File(["no image"], "x.png", {type: "image/png"}));
            document.body.dispatchEvent(new DragEvent(
                "drop", {dataTransfer: moved, bubbles: true, cancelable: true}));
        })()"""
        page.evaluate(dropped)
        words = page.wait("document.querySelector('#queries .wrong')?.textContent")
        assert words.startswith("Not searched: this is no image")
        assert page.evaluate("document.querySelectorAll('#queries li').length") == 0
        refused = [each for each in page.logged if "415" not in json.dumps(each)]
        assert refused == []
