"""One study, as it is asked for and while it is under way. Knows no step of the pipeline."""

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from rag.drafting import DraftRequest
from rag.prediction import Prediction
from rag.region import NO_REGION, ReaderRegion
from rag.schema import Status


@dataclass(frozen=True, slots=True)
class Study:
    """One study to report.

    Attributes:
        source: the frontal image, as a file or as its bytes.
        further: other views of the same study, a lateral above all; they help to find reports.
        name: what the prediction calls the image ("file").
        study_id: what the prediction calls the study.
        study_ids, patient_ids: never to be retrieved; ids in a DICOM header are added to them.
        indication: why the image was taken, if known.
        not_relevant: report ids the reader ruled out.
        attention: where the reader looked on the frontal image; it draws the search there.
    """

    source: Path | bytes
    name: str
    further: tuple[Path | bytes, ...] = ()
    study_id: str = ""
    study_ids: frozenset[str] = frozenset()
    patient_ids: frozenset[str] = frozenset()
    indication: str = ""
    not_relevant: frozenset[str] = frozenset()
    attention: ReaderRegion = NO_REGION


@dataclass(slots=True)
class Work:
    """A study under way. Holds no pixels; can be pickled, so that two machines may share it.

    Attributes:
        latest: the prediction as far as it has come.
        question: what is to be asked; None while it is not known, and if the study has ended.
        seconds: wall time by stage.
    """

    latest: Prediction
    question: DraftRequest | None = None
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add the time of a block to a stage."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0) + time.perf_counter() - started

    def note(self, warnings: Iterable[str]) -> None:
        """Add warnings, each once."""
        told = dict.fromkeys((*self.latest.warnings, *warnings))
        self.latest = replace(self.latest, warnings=tuple(told))

    def abstain(self, error: str, reason: str) -> None:
        """End it without a draft."""
        self.latest = replace(self.latest, status=Status.ABSTAINED, error=error, reason=reason)

    def done(self) -> Prediction:
        """The prediction with its times."""
        return replace(self.latest, seconds=dict(self.seconds))
