"""The report index: answers queries with evidence. Knows neither images nor how an index is built.

A report of an excluded study or patient never comes back.
"""

import threading
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path, PurePath
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from encoders.base import EncoderIdentity
from rag.errors import StoreError, StoreMismatchError
from rag.index.chroma import chroma_facts, open_collections
from rag.index.client import place_of
from rag.index.ids import NOTHING, Exclusions, ReportIds
from rag.index.info import INDEX_FILE, REBUILD_HINT, IndexInfo, check_encoder, read_info
from rag.index.search import OpenedVersion
from rag.schema import Hit, ReportRecord

T = TypeVar("T")


class ReportIndex:
    """An index opened for reading; close it, or use it as a context manager.

    Any number of processes may read, also while one writes, and queries may come from several
    threads. A newer version is taken up as soon as it counts.

    Args:
        directory: where `rag.index.build_index` made it.
        encoder: who will ask; an index made by another encoder is refused. None: do not check.
        url: of the Chroma server that holds the collections, if they are not in the folder.

    Raises:
        StoreMissingError: nothing has been indexed here.
        StoreMismatchError: made by another encoder, preprocessing, Chroma or version of ours.
        StoreError: the files are damaged; the message says what to do.
    """

    def __init__(
        self, directory: Path, *, encoder: EncoderIdentity | None = None, url: str = ""
    ) -> None:
        self.directory = directory
        self._encoder = encoder
        self._url = url
        self._turn = threading.Lock()
        self._opened = ExitStack()
        self._open()

    @property
    def info(self) -> IndexInfo:
        """What the index was made with; where that cannot be opened now, the last that could."""
        with suppress(StoreError):
            return self._current().info
        return self._version.info

    @property
    def index_id(self) -> str:
        """Short hash of the index; stands in every prediction."""
        return self.info.index_id

    @property
    def attribution(self) -> str:
        """Where the reports come from, to be shown wherever they are."""
        return " ".join(
            each.attribution or f"{each.name} (licence: {each.licence})."
            for each in self.info.collections
        )

    def __len__(self) -> int:
        return self.info.count

    def get(self, report_id: str) -> ReportRecord | None:
        """A report by its id; None if it is not here."""
        return self._ask(lambda version: version.get(report_id))

    def studies_named_in(self, path: str | PurePath) -> frozenset[str]:
        """Studies that an image's path names, by their own id or by their patient's."""
        return self._ask(lambda version: version.studies_named_in(path))

    def query(
        self, vector: NDArray[np.float32], k: int, *, exclude: Exclusions = NOTHING
    ) -> list[Hit]:
        """The ``k`` nearest texts to a vector, nearest first, ties by report id.

        A text comes once, as its first report by id that is not left out; `Hit.copies` says how
        many have it.

        Args:
            vector: float32 [dim]; scaled to norm 1 here.
            k: how many; fewer come back only if fewer are there.
            exclude: what must not come back.

        Raises:
            ValueError: the vector has another shape, or is not finite, or zero.
            StoreError: the index has become unusable, or its server has stopped.
        """
        return self._ask(lambda version: version.query(vector, k, exclude))

    def query_by_images(
        self,
        vector: NDArray[np.float32],
        k: int,
        *,
        exclude: Exclusions = NOTHING,
        similarity: Literal["image", "text"] = "image",
    ) -> list[Hit]:
        """The ``k`` reports whose images are nearest to a vector, one a text, nearest first.

        A hit's similarity is that of its nearest image to the vector, or that of its text. What is
        left out is as in `query`. A `StoreError` where the index has no images.
        """
        return self._ask(
            lambda version: version.query_by_images(vector, k, exclude, similarity=similarity)
        )

    def close(self) -> None:
        """Let go of the files. Safe to call twice."""
        self._opened.close()

    def __enter__(self) -> "ReportIndex":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _ask(self, question: Callable[[OpenedVersion], T]) -> T:
        """Ask the version that counts; once more if it was replaced under our hands."""
        version = self._current()
        try:
            return question(version)
        except StoreError:
            current = self._current()
            if current is version:
                raise
            return question(current)

    def _current(self) -> OpenedVersion:
        if self._mark() != self._version.mark:
            with self._turn:
                if self._mark() != self._version.mark:
                    self._open()
        return self._version

    def _mark(self) -> tuple[int, int]:
        """Changes whenever another version has come to count; costs one system call."""
        with suppress(OSError):
            status = (self.directory / INDEX_FILE).stat()
            return status.st_ino, status.st_mtime_ns
        return 0, 0

    def _open(self) -> None:
        """Take up the version that counts, in place of the one before."""
        mark, info = self._mark(), read_info(self.directory)
        if self._encoder is not None:
            check_encoder(self.directory, info, self._encoder)
        here, made = (str(facts["version"]) for facts in (chroma_facts(), info.chroma))
        if here.split(".")[:2] != made.split(".")[:2]:
            raise StoreMismatchError(
                f"the index in {self.directory} was written by Chroma {made}, this is {here}: "
                f"{REBUILD_HINT}"
            )
        place = place_of(self.directory, info, self._url)
        with ExitStack() as opened:
            texts, images = opened.enter_context(open_collections(place))
            if (count := texts.count()) != info.texts:
                raise StoreError(
                    f"Chroma in {place} holds {count} texts, {info.texts} expected: {REBUILD_HINT}"
                )
            ids = ReportIds(place.folder.parent)
            opened.callback(ids.close)
            self.close()
            self._version = OpenedVersion(mark, info, texts, images, ids)
            self._opened = opened.pop_all()
