"""Images of the indexed studies: read, embedded once, kept for the reports of their study.

Knows which images must be embedded and for which reports they stand; not how they are kept.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from encoders.base import CxrImage, ImageTextEncoder
from encoders.images.image_io import BLANK, ImageReadError, read_image
from rag.corpus import Problem
from rag.index.vectors import checked
from rag.schema import ReportRecord
from rag.store.chroma import Progress
from rag.store.disk import disk_errors
from rag.store.journal import EmbeddingJournal

Images = Mapping[str, Sequence[Path]]
"""Study id -> files of its images."""

NO_IMAGES: Images = MappingProxyType({})

_BATCH = 16
_KEY_LENGTH = 32  # hex digits of a file's SHA-256; as many as of a text's hash


class ImageEmbeddings:
    """Images by key (hash of the file), each with its vector and the reports it stands for."""

    def __init__(
        self, reports: Mapping[str, Iterable[str]], vectors: Mapping[str, NDArray[np.float32]]
    ) -> None:
        self.reports = {key: list(names) for key, names in reports.items()}
        self.vectors = dict(vectors)
        self.problems: list[Problem] = []
        self.embedded = 0

    def add(
        self,
        images: Images,
        records: Iterable[ReportRecord],
        encoder: ImageTextEncoder,
        directory: Path,
        *,
        progress: Progress,
    ) -> None:
        """Take in images of studies that have a report; each batch is on the disk at once.

        Args:
            images: those that are known already are read but not embedded; those that cannot be
                read or show nothing become problems.
            records: all that the index will hold.
            encoder: embeds the images.
            directory: of the store.
            progress: told ("images", done, total).
        """
        journal = EmbeddingJournal(directory, encoder)
        with disk_errors(directory):
            self.vectors = journal.read() | self.vectors
        names: dict[str, list[str]] = {}
        for record in records:
            names.setdefault(record.study_id, []).append(record.report_id)
        todo = [
            (names[study], path) for study in images if study in names for path in images[study]
        ]
        for start in range(0, len(todo), _BATCH):
            batch = todo[start : start + _BATCH]
            new: dict[str, CxrImage] = {}
            for reports, image in self._read(batch):
                key = image.source_sha256[:_KEY_LENGTH]
                self.reports.setdefault(key, []).extend(reports)
                if key not in self.vectors:
                    new[key] = image
            if new:
                rows = checked(encoder.embed_images(list(new.values())), encoder, len(new))
                with disk_errors(directory):
                    journal.append(list(new), rows)
                self.vectors.update(zip(new, rows, strict=True))
                self.embedded += len(new)
            progress("images", start + len(batch), len(todo))

    def _read(
        self, batch: Iterable[tuple[list[str], Path]]
    ) -> Iterator[tuple[list[str], CxrImage]]:
        for reports, path in batch:
            try:
                image = read_image(path)
            except ImageReadError as error:
                reason = f"an image cannot be read: {error.reason.value}"
                self.problems.append(Problem(path.name, reason, reports[0]))
                continue
            if BLANK in image.warnings:
                self.problems.append(Problem(path.name, "an image shows nothing", reports[0]))
            else:
                yield reports, image
