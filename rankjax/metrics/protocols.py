"""Who looks for what among which rows: the protocols of retrieval."""

import dataclasses
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from rankjax.metrics import checks


@dataclasses.dataclass(frozen=True)
class Search:
    """Queries, the gallery that each looks through, and what it is to find.

    A gallery row of the query's label is a positive, every other row a negative. Two
    kinds of rows are neither, and are left out of the query's ranking: the query
    itself, and rows of its label that its own camera took. Where rows have several
    labels, those that share one with the query are positives.

    Attributes:
      queries: [q, dim] floating point.
      query_labels: [q] integers of any size, strings, or [q, classes] bool.
      gallery: [n, dim].
      gallery_labels: [n], or [n, classes].
      itself: [q] the gallery row that a query is, -1 for none; None where no query is
        a row of the gallery.
      query_cameras: [q] integers or strings, or None.
      gallery_cameras: [n], or None.
    """

    queries: np.ndarray
    query_labels: np.ndarray
    gallery: np.ndarray
    gallery_labels: np.ndarray
    itself: np.ndarray | None = None
    query_cameras: np.ndarray | None = None
    gallery_cameras: np.ndarray | None = None

    @property
    def most(self) -> int:
        """How many rows a query can meet; no K is larger."""
        return len(self.gallery) - (self.itself is not None)

    def skipped(self, queries: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Which gallery rows a query's ranking leaves out, pair by pair.

        Args:
          queries: their numbers, in a shape that broadcasts with
          rows: numbers of gallery rows.
        """
        none = np.zeros(np.broadcast_shapes(queries.shape, rows.shape), bool)
        if self.itself is not None:
            none |= self.itself[queries] == rows
        if self.query_cameras is not None and self.gallery_cameras is not None:
            same = _alike(self.query_labels[queries], self.gallery_labels[rows])
            none |= same & (self.query_cameras[queries] == self.gallery_cameras[rows])
        return none

    def masks(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """For each query its positives, and what it skips; bool [n] each."""
        every = np.arange(len(self.gallery))
        for query, label in enumerate(self.query_labels):
            skipped = self.skipped(np.array([query]), every)
            yield _alike(label[None], self.gallery_labels) & ~skipped, skipped

    def relevance(self) -> Iterator[np.ndarray]:
        """For each query the Jaccard index of its labels and those of rows, [n].

        That is the share of all their labels that both have, 0 where there are none;
        -1 of rows that the query skips. Of one label per row it is their equality.
        """
        every = np.arange(len(self.gallery))
        for query, label in enumerate(self.query_labels):
            index = _alike(label[None], self.gallery_labels).astype(np.float64)
            if label.ndim:
                common = (self.gallery_labels & label).sum(1)
                index = common / np.maximum((self.gallery_labels | label).sum(1), 1)
            yield np.where(self.skipped(np.array([query]), every), -1, index)


def _alike(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Whether rows have equal labels, or share one where they have several."""
    return one == other if one.dtype != bool else (one & other).any(-1)


class Side(NamedTuple):
    """The queries, or the gallery: embeddings [n, dim], labels [n], cameras [n]."""

    embeddings: Any
    labels: Any
    cameras: Any = None


def search_of(
    protocol: str,
    queries: Side,
    gallery: Side | None = None,
    *,
    junk: Any = None,
    itself: Any = None,
) -> Search:
    """The search that a protocol of this name is.

    Args:
      protocol: 'leave-one-out', of the queries alone; 'query-gallery', which does not
        look at cameras; or 'reid', which does.
      queries: they and
      gallery: what they look through.
      junk: bool, rows of the gallery that no query meets.
      itself: of `query_gallery`.

    Raises:
      ValueError: no such protocol, what it needs is not there, or as of
        `leave_one_out` and `query_gallery`.
      TypeError: a wrong type.
    """
    if protocol == "leave-one-out":
        return leave_one_out(queries.embeddings, queries.labels)
    if protocol not in ("query-gallery", "reid"):
        raise ValueError(
            "protocol must be leave-one-out, query-gallery or reid for a search, got "
            f"{protocol}"
        )
    if gallery is None:
        raise ValueError(f"protocol {protocol} needs queries and a gallery")
    cameras = {}
    if protocol == "reid":
        if queries.cameras is None or gallery.cameras is None:
            raise ValueError("protocol reid needs cameras")
        cameras = {
            "query_cameras": queries.cameras,
            "gallery_cameras": gallery.cameras,
        }
    return query_gallery(
        *queries[:2], *gallery[:2], junk=junk, itself=itself, **cameras
    )


def leave_one_out(embeddings: Any, labels: Any) -> Search:
    """Every row looks for the others of its class among all others.

    The protocol of CUB-200-2011, Cars-196 and Stanford Online Products.

    Args:
      embeddings: [n, dim] floating point.
      labels: [n] integers or strings; or [n, classes] bool, where a row has several.

    Raises:
      ValueError: a wrong shape, no row, or an entry that is not finite.
      TypeError: a wrong type.
    """
    rows = checks.as_embeddings("embeddings", embeddings)
    labels = checks.as_label_sets("labels", labels, len(rows))
    return Search(rows, labels, rows, labels, itself=np.arange(len(rows)))


def query_gallery(
    queries: Any,
    query_labels: Any,
    gallery: Any,
    gallery_labels: Any,
    *,
    query_cameras: Any = None,
    gallery_cameras: Any = None,
    junk: Any = None,
    itself: Any = None,
) -> Search:
    """Queries look among the rows of a gallery, and never at themselves.

    Without cameras the protocol of In-Shop. With cameras and junk that of Market-1501
    and DukeMTMC-reID: a query skips the images that its own camera took of the same
    person, and nobody meets junk; distractors are rows whose label no query has.

    Args:
      queries: [q, dim] floating point.
      query_labels: [q] integers or strings; or [q, classes] bool, where a row has
        several.
      gallery: [n, dim].
      gallery_labels: [n], or [n, classes].
      query_cameras: [q] integers or strings; both or neither.
      gallery_cameras: [n].
      junk: bool [n], rows of the gallery that no query meets (label -1 of Market-1501).
      itself: [q] integers, where queries are images of the gallery, too: the row that a
        query is, or -1.

    Raises:
      ValueError: a wrong shape, no query, an empty gallery, cameras of one side alone,
        an entry that is not finite, or a query that is a row of another label.
      TypeError: a wrong type.
    """
    queries = checks.as_embeddings("queries", queries)
    gallery = checks.as_embeddings("gallery", gallery)
    if queries.shape[1] != gallery.shape[1]:
        raise ValueError(
            f"queries and gallery must have equally many dimensions, got "
            f"{queries.shape[1]} and {gallery.shape[1]}"
        )
    query_labels = checks.as_label_sets("query_labels", query_labels, len(queries))
    gallery_labels = checks.as_label_sets(
        "gallery_labels", gallery_labels, len(gallery)
    )
    if query_labels.shape[1:] != gallery_labels.shape[1:]:
        raise ValueError(
            "query_labels and gallery_labels must be of equally many classes, got "
            f"{query_labels.shape} and {gallery_labels.shape}"
        )
    _check_kinds("labels", query_labels, gallery_labels)
    if (query_cameras is None) != (gallery_cameras is None):
        raise ValueError("query_cameras and gallery_cameras must be given together")
    if query_cameras is not None:
        query_cameras = checks.as_labels("query_cameras", query_cameras, len(queries))
        gallery_cameras = checks.as_labels(
            "gallery_cameras", gallery_cameras, len(gallery)
        )
        _check_kinds("cameras", query_cameras, gallery_cameras)
    if itself is not None:
        itself = checks.as_labels("itself", itself, len(queries))
        checks.within("itself", itself[itself != -1], len(gallery))
        if len(itself) > 2 and set(itself) == {0, 1}:
            raise ValueError(
                "itself must be row numbers of the gallery and -1 for none, got only 0 "
                "and 1; of a mask take np.where(mask, rows, -1)"
            )
        wrong = (itself >= 0) & ~_alike(gallery_labels[itself], query_labels)
        if wrong.any():
            at = np.flatnonzero(wrong)[0]
            raise ValueError(
                f"itself must be a row of the query's label, got row {itself[at]} of "
                f"label {gallery_labels[itself[at]]} for query {at} of label "
                f"{query_labels[at]}"
            )
    if junk is not None:
        junk = checks.as_mask("junk", junk, len(gallery))
        if junk.all():
            raise ValueError(f"junk leaves nothing of a gallery of {len(gallery)} rows")
        if itself is not None:
            kept = np.where(junk, -1, np.cumsum(~junk) - 1)
            itself = np.where(itself >= 0, kept[itself], -1)
        gallery, gallery_labels = gallery[~junk], gallery_labels[~junk]
        if gallery_cameras is not None:
            gallery_cameras = gallery_cameras[~junk]
    return Search(
        queries,
        query_labels,
        gallery,
        gallery_labels,
        itself=itself,
        query_cameras=query_cameras,
        gallery_cameras=gallery_cameras,
    )


def _check_kinds(of: str, queries: np.ndarray, gallery: np.ndarray) -> None:
    """Raises a TypeError where numbers would be compared with strings."""
    kinds = [side.dtype.kind.replace("u", "i") for side in (queries, gallery)]
    if kinds[0] != kinds[1]:
        raise TypeError(
            f"query_{of} and gallery_{of} must both be integers or both strings, got "
            f"{queries.dtype} and {gallery.dtype}"
        )


def some_queries(search: Search, rows: Any) -> Search:
    """The search for some of its queries in its whole gallery.

    Args:
      search: the protocol.
      rows: of the queries; row numbers [m], each once, or a bool mask [q].

    Raises:
      ValueError: a wrong shape, no row, a number out of range, or one that is there
        twice.
      TypeError: neither bool nor integers.
    """
    rows = checks.as_rows("rows", rows, len(search.queries))
    if not len(rows):
        raise ValueError("rows must name at least one query, got none")

    def some(x: np.ndarray | None) -> np.ndarray | None:
        return None if x is None else x[rows]

    return dataclasses.replace(
        search,
        queries=search.queries[rows],
        query_labels=search.query_labels[rows],
        itself=some(search.itself),
        query_cameras=some(search.query_cameras),
    )
