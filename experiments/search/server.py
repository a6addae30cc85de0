"""A web page on which images are dropped, and their neighbours are seen."""

import io
import json
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from experiments.search.index import Find, Index, answers
from rankjax.data import images
from rankjax.data.images import DamagedImage, decode, to_pil
from rankjax.errors import RunError, UsageError
from rankjax.files import printable, read_regular

MOST_BYTES, MOST_PIXELS = 20_000_000, 50_000_000
"""Of an upload."""

SECONDS = 30
"""Within which a request must have arrived."""

_SIDES = {"image": 320, "large": 1600}  # pixels, by what a path begins with
_FOUND, _EXAMPLES = 100, 12
_HERE = Path(__file__).parent
_PAGE = {
    "/": (_HERE / "page.html", "text/html; charset=utf-8"),
    "/base.css": (files("rankjax") / "report" / "base.css", "text/css; charset=utf-8"),
    "/page.css": (_HERE / "page.css", "text/css; charset=utf-8"),
    "/page.svg": (_HERE / "page.svg", "image/svg+xml"),
    "/page.js": (_HERE / "page.js", "text/javascript; charset=utf-8"),
}
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; "
        "img-src 'self' blob:; connect-src 'self'; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}

Embed = Callable[[Sequence[str | bytes]], np.ndarray]


class _RefusedError(Exception):
    """What is not answered: a status, and why."""

    def __init__(self, status: HTTPStatus, reason: str) -> None:
        super().__init__(reason)
        self.status = status


def make_server(
    index: Index,
    find: Find,
    embed: Embed,
    *,
    k: int,
    least: float = -1,
    host: str = "127.0.0.1",
    port: int = 8000,
    allowed: Sequence[str] = (),
) -> ThreadingHTTPServer:
    """A server that is bound, and serves once `serve_forever` is called.

    It answers GET of the page, of /about, of /image/ROW and /large/ROW, copies of an
    image of the index, of /near/ROW, its neighbours, and POST of an image to /search.

    Args:
      index: what is searched.
      find: by what; see `open_backend`.
      embed: see `QueryEmbedder`.
      k: neighbours that are shown at first, of the hundred that are sent.
      least: similarity that is shown at first.
      host, port: where it listens; 0 for any free port.
      allowed: names of this machine that requests may be addressed to, beside `host`
        and localhost. Others are refused: a page of another site whose name was made
        to point here (DNS rebinding) must not read images.

    Raises:
      UsageError: no port has this number.
      RunError: it cannot listen there.
    """
    if not 0 <= port <= 65535:
        raise UsageError(f"port must be from 0 to 65535, got {port}")

    class Handler(_Handler):
        searched = _Searched(index, find, embed, k, least)

    try:
        server = _Server((host, port), Handler)
    except OSError as error:
        raise RunError(f"cannot listen on {host}:{port}: {error}") from error
    names = {"127.0.0.1", "localhost", "[::1]", host, *allowed}
    Handler.hosts = hosts_of(names, server.server_port)
    return server


def hosts_of(names: Iterable[str], port: int) -> set[str]:
    """What browsers call a server; they leave out the port that is the default."""
    ends = [f":{port}", ""] if port == 80 else [f":{port}"]
    return {f"{name}{end}".lower() for name in names for end in ends}


class _Searched:
    """The index and what is done with it, by several requests at the same time."""

    def __init__(
        self, index: Index, find: Find, embed: Embed, k: int, least: float = -1
    ) -> None:
        self.index, self._find, self._embed = index, find, embed
        self._k, self._least = k, least
        self._root = os.path.commonpath([os.path.dirname(p) for p in index.paths])
        self._one = threading.Lock()  # other libraries' indexes are not made for two

    def about(self) -> dict[str, Any]:
        labels = self.index.labels
        drawn = np.random.default_rng(0).permutation(len(self.index.paths))
        if labels:  # of each class one
            drawn = drawn[
                np.unique([labels[row] for row in drawn], return_index=True)[1]
            ]
            drawn = np.random.default_rng(0).permutation(drawn)
        return {
            "images": len(self.index.paths),
            "classes": len(set(labels)) if labels else 0,
            "k": self._k,
            "least": self._least,
            "examples": [self._described(int(row)) for row in drawn[:_EXAMPLES]],
        }

    def near_image(self, content: bytes) -> dict[str, Any]:
        """The neighbours of an image."""
        _check_image(content)
        return {"neighbours": self._near(lambda: self._embed([content]))}

    def near_row(self, text: str) -> dict[str, Any]:
        """A row of the index, and the neighbours that it has beside itself."""
        row = self._row(text)
        found = self._near(lambda: self.index.embeddings[row : row + 1])
        others = [each for each in found if each["row"] != row]
        return {"query": self._described(row), "neighbours": others}

    def _near(self, embedded: Callable[[], np.ndarray]) -> list[dict[str, Any]]:
        most = min(max(self._k, _FOUND) + 1, len(self.index.paths))
        with self._one:
            try:
                near = self._find(embedded(), most)
            except RunError as error:
                raise _RefusedError(HTTPStatus.BAD_REQUEST, str(error)) from error
        (found,) = answers(self.index, near)
        return [each | self._described(each["row"]) for each in found]

    def _described(self, row: int) -> dict[str, Any]:
        label = printable(self.index.labels[row]) if self.index.labels else None
        path = os.path.relpath(self.index.paths[row], self._root)
        return {"row": row, "label": label, "path": printable(path)}

    def _row(self, text: str) -> int:
        number = _number(text, len(self.index.paths) - 1)
        if number is None:
            raise _RefusedError(HTTPStatus.NOT_FOUND, "there is no such image")
        return number

    def picture(self, text: str, side: int) -> bytes:
        """A copy of an image, of at most so many pixels across."""
        number = self._row(text)
        try:
            content = read_regular(self.index.paths[number])
            pixels = decode(content, channels=3, at_least=side)
        except (OSError, DamagedImage) as error:
            reason = "the image is not there any more, or damaged"
            raise _RefusedError(HTTPStatus.NOT_FOUND, reason) from error
        image = to_pil(pixels)
        image.thumbnail((side, side))
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=85)
        return buffer.getvalue()


def _check_image(content: bytes) -> None:
    try:
        with Image.open(io.BytesIO(content), formats=images.FORMATS) as image:
            pixels, more = image.width * image.height, ""
    except Image.DecompressionBombError:
        pixels, more = images.MOST_PIXELS, "more than "
    except Exception as error:  # Pillow's readers raise errors of a dozen kinds.
        reason = f"this is no image of the kinds {', '.join(images.FORMATS)}"
        raise _RefusedError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, reason) from error
    if pixels > MOST_PIXELS:
        raise _RefusedError(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            f"the image may have {MOST_PIXELS:,} pixels, it has {more}{pixels:,}",
        )


def _number(text: str, most: int) -> int | None:
    """A number of decimal digits up to `most`; None for anything else."""
    digits = text.lstrip("0") or "0"
    known = text.isascii() and text.isdigit() and len(digits) < 20
    return int(digits) if known and int(digits) <= most else None


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """Reports all but those who hang up."""
        if not isinstance(sys.exception(), (ConnectionError, TimeoutError)):
            super().handle_error(request, client_address)


class _Arriving(io.RawIOBase):
    """What is read from a connection, until a deadline for all of it."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection, self._end = connection, time.monotonic() + SECONDS

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        left = self._end - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._connection.settimeout(left)
        return self._connection.recv_into(buffer)


class _Handler(BaseHTTPRequestHandler):
    searched: _Searched
    hosts: set[str]
    server_version, sys_version = "rankjax", ""
    timeout = SECONDS  # for an answer to be taken

    def setup(self) -> None:
        """Gives a request one deadline: many slow ones cannot stay."""
        super().setup()
        self.rfile.close()
        self.rfile = io.BufferedReader(_Arriving(self.connection))

    def do_GET(self) -> None:
        """The page, or something that it shows."""
        self._answer(self._get)

    do_HEAD = do_GET

    def do_PUT(self) -> None:
        """A refusal: nothing is stored here."""
        self._answer(self._no_method)

    do_DELETE = do_PATCH = do_PUT

    def _no_method(self) -> tuple[str, bytes]:
        reason = f"{self.command} is not allowed; use GET, or POST /search"
        raise _RefusedError(HTTPStatus.METHOD_NOT_ALLOWED, reason)

    def do_POST(self) -> None:
        """The neighbours of an image."""
        self._answer(self._post)

    def _answer(self, find: Callable[[], tuple[str, bytes]]) -> None:
        status = HTTPStatus.OK
        try:
            self._check_origin()
            self.path = self.path.partition("?")[0]  # the rest is for the page's script
            kind, content = find()
        except _RefusedError as refused:
            status, self.close_connection = refused.status, True
            kind, content = _json({"error": str(refused)})
        self.connection.settimeout(self.timeout)
        self.send_response(status)
        for name, value in _HEADERS.items():
            self.send_header(name, value)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)
        if status != HTTPStatus.OK:
            # Closed with its file unread, the connection would lose the answer.
            with suppress(OSError):
                self.connection.shutdown(socket.SHUT_WR)
                while self.rfile.read1(2**16):
                    pass

    def _check_origin(self) -> None:
        host = (self.headers.get("Host") or "").lower()
        origin = self.headers.get("Origin")
        if host not in self.hosts or origin not in (None, f"http://{host}"):
            raise _RefusedError(
                HTTPStatus.FORBIDDEN,
                "requests must be addressed to localhost, or to an --allow-host",
            )

    def _get(self) -> tuple[str, bytes]:
        if self.path in _PAGE:
            file, kind = _PAGE[self.path]
            return kind, file.read_bytes()
        if self.path == "/about":
            return _json(self.searched.about())
        what, _, row = self.path.removeprefix("/").partition("/")
        if what in _SIDES:
            return "image/jpeg", self.searched.picture(row, _SIDES[what])
        if what == "near":
            return _json(self.searched.near_row(row))
        raise _RefusedError(HTTPStatus.NOT_FOUND, "there is no such page")

    def _post(self) -> tuple[str, bytes]:
        if self.path != "/search":
            raise _RefusedError(HTTPStatus.NOT_FOUND, "there is no such page")
        if not self.headers.get("Content-Type", "").lower().startswith("image/"):
            raise _RefusedError(
                HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
                "send an image, with its Content-Type: image/jpeg or image/png",
            )
        length = self.headers.get("Content-Length", "")
        if not (length.isascii() and length.isdigit()):
            raise _RefusedError(HTTPStatus.LENGTH_REQUIRED, "say the Content-Length")
        number = _number(length, MOST_BYTES)
        if number is None:
            raise _RefusedError(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                f"the file may have {MOST_BYTES:,} bytes, it has more",
            )
        try:
            content = self.rfile.read(number)
        except TimeoutError as error:
            reason = f"the file took longer than {SECONDS} seconds to arrive"
            raise _RefusedError(HTTPStatus.REQUEST_TIMEOUT, reason) from error
        return _json(self.searched.near_image(content))

    def log_message(self, *ignored: object) -> None:
        """Nothing: standard error is for errors."""


def _json(value: Any) -> tuple[str, bytes]:
    return "application/json", json.dumps(value).encode()
