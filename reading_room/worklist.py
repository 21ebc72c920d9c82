"""The studies of a folder, drafted ahead: what waits, what is drafted, what is urgent.

One worker looks at the folder (a C-STORE inbox is one, and what a DICOMweb server is asked for goes
into one) and drafts what is new, one study after another, so that a draft is there when a study is
opened. Drafts are kept in memory; what was signed is known from the audit record, by the hashes of
the images.
"""

import hashlib
import logging
import math
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from functools import lru_cache
from pathlib import Path

from encoders.images.image_info import ImageInfo
from encoders.images.image_io import read_image_info
from encoders.images.raw_image import ImageReadError
from rag.batch.grouping import group_images
from rag.batch.inputs import BatchStudy, list_images
from rag.errors import CxrRagError
from rag.pacs.dicomweb import fetch_study, find_studies_of_day
from rag.pipeline import ReportPipeline
from rag.review.audit import AuditLog
from rag.review.reviewed_report import ReviewedReport
from reading_room import strings
from reading_room.listed_study import FileState, ListedStudy, StudyState
from reading_room.opening import MAX_IMAGES, checked_prior
from reading_room.session import Session
from reading_room.templating import render

logger = logging.getLogger(__name__)

LOOK_SECONDS = 5.0
"""How often the folder is looked at, and the page asks for the list."""
ASK_SECONDS = 60.0
"""How often a DICOMweb server is asked for new studies."""
RETRY_SECONDS = 60.0
"""After which a draft that failed for want of a server is tried again."""


class Worklist:
    """Looks at a folder, drafts ahead, and remembers who signed what.

    Args:
        folder: of the images, with whatever folders are in it.
        pipeline: makes the drafts.
        audit: the record, which knows what was signed before; None knows nothing.
        calibrated: whether the probabilities were calibrated on studies of this hospital.
        fetch: brings new images into the folder before it is looked at, if anything does.
    """

    def __init__(
        self,
        folder: Path,
        pipeline: ReportPipeline,
        *,
        audit: AuditLog | None = None,
        calibrated: bool = False,
        fetch: Callable[[], None] | None = None,
    ) -> None:
        self._folder = folder
        self._pipeline = pipeline
        self._calibrated = calibrated
        self._steps = [step for step in (fetch, self.look, self.draft_next) if step]
        self._signed_before = _signed_before(audit) if audit else {}
        self._studies: dict[str, ListedStudy] = {}
        # by study and reader; what is signed is everybody's, and lies under None
        self._kept: dict[tuple[str, str | None], Session] = {}
        self._seen: object = None
        self._failures: list[str] = []
        self._left_out: list[str] = []
        self._lock = threading.Lock()
        self._ended = threading.Event()

    def start(self) -> None:
        """Look and draft in the background until `close`."""
        threading.Thread(target=self._work, name="worklist", daemon=True).start()

    def close(self) -> None:
        """Begin no further draft."""
        self._ended.set()

    def studies(self) -> list[ListedStudy]:
        """Urgent first; what waits and what was refused after it, what is signed last."""
        order = list(StudyState)
        return sorted(
            self._studies.values(),
            key=lambda each: (order.index(each.state), -each.urgency[0], each.info.study_time),
        )

    def find(self, key: object) -> ListedStudy | None:
        """A study by its key, as the browser sent it."""
        return self._studies.get(str(key))

    def html(self) -> str:
        """The list."""
        studies = self.studies()
        ranked = any(each.urgency[1] for each in studies)
        order = strings.BY_URGENCY_HERE if self._calibrated else strings.BY_URGENCY
        return render(
            "worklist.html",
            studies=studies,
            order=order if ranked else strings.BY_DATE,
            problems=[*self._failures, *self._left_out],
        )

    def keep(self, session: Session, *, reader: str) -> None:
        """Remember what a reader made of a study; a signed one is every reader's."""
        key, report = session.study, session.report
        if not key or report is None:
            return
        with self._lock:
            study, signed = self._studies.get(key), self.signed(key)
            images = {Path(image.path) for image in session.images}
            if study is None or images != set(study.images[:MAX_IMAGES]):
                return  # it is of images that are no longer the study's
            if report.signature is None:
                self._kept[key, reader] = session
            elif signed is None or len(signed.addenda) <= len(report.addenda):
                by = strings.SIGNED_AS.format(report.signature.name, report.signature.at[:10])
                self._kept[key, None] = session
                self._studies[key] = replace(study, signed=by)

    def kept(self, key: str, *, reader: str) -> Session | None:
        """What was made of a study: signed by anybody, else by this reader."""
        return self._kept.get((key, None)) or self._kept.get((key, reader))

    def signed(self, key: str) -> ReviewedReport | None:
        """The signed report of a study, with every addendum."""
        session = self._kept.get((key, None))
        return session.report if session else None

    def look(self) -> None:
        """Bring the list up to date with the folder.

        Raises:
            CxrRagError: there is no such folder.
        """
        listing = list_images(self._folder)
        files = {image.path: _file(image.path) for image in listing.images}
        if (seen := frozenset(files.values())) == self._seen:
            return
        studies, problems = group_images(listing.images, read=lambda path: _header(files[path]))
        found = {}
        for study in studies:
            earlier = [path for path in study.prior.files if isinstance(path, Path)]
            paths = [study.source, *study.other_views, *earlier]
            found[study.study_id] = self._listed(study, tuple(files[path] for path in paths))
        with self._lock:
            for key, one in found.items():
                known = self._studies.get(key)
                if known and known.files == one.files:  # it may have been signed meanwhile
                    found[key] = known
            kept = self._kept.items()
            same = {key for key, one in self._studies.items() if found.get(key) is one}
            self._kept = {at: session for at, session in kept if at[0] in same}
            self._studies = found
        self._left_out = problems
        self._seen = seen

    def draft_next(self) -> bool:
        """Draft one study that waits, the oldest first; whether there was one."""
        late = time.time() - RETRY_SECONDS
        waiting = (each for each in self.studies() if each.state is StudyState.WAITING)
        due = (each for each in waiting if each.drafted_at < late)
        one = min(due, key=lambda each: each.info.study_time, default=None)
        if one is None:
            return False
        try:
            # as `Controller.open_study` opens them, and the record has them
            hashes = [_sha256(path) for path in one.images[:MAX_IMAGES]]
        except OSError:  # taken away since it was seen
            self._seen = None
            return True
        if signed := self._signed_before.get(frozenset(hashes)):
            self._replace(one, replace(one, signed=signed))
            return True
        study = replace(
            one.study,
            # as on the page: a file's name and folder may be a person's, and a draft is exported
            name=f"image {hashes[0][:12]}",
            study_id="",
            exclude=replace(one.study.exclude, studies=frozenset({one.key})),
            prior=one.prior,
        )
        prediction = self._pipeline.invoke(study)
        self._replace(one, replace(one, prediction=prediction, drafted_at=time.time()))
        return True

    def _listed(self, study: BatchStudy, files: tuple[FileState, ...]) -> ListedStudy:
        """The study as it stands in the list, unless its images are others now."""
        known = self._studies.get(study.study_id)
        if known is not None and known.files == files:
            return known
        one = ListedStudy(study, files)
        try:
            one = replace(one, info=_header(files[0]))
            if study.prior:
                prior, _ = checked_prior(study.prior, one.info)
                return replace(one, prior=prior)
        except (CxrRagError, ImageReadError):
            pass  # drafting it will tell why; a prior that cannot be used is none
        return one

    def _replace(self, old: ListedStudy, new: ListedStudy) -> None:
        """Unless it has changed, or was signed, meanwhile."""
        with self._lock:
            if self._studies.get(old.key) is old:
                self._studies[old.key] = new

    def _work(self) -> None:
        while not self._ended.is_set():
            failures: list[str] = []
            drafted = False
            for step in self._steps:
                try:
                    drafted = bool(step())
                except (CxrRagError, OSError) as error:
                    failures.append(str(error))
                except Exception as error:  # noqa: BLE001 - the list must go on
                    # the message may quote a header, so only its type is logged
                    logger.error("the worklist failed: %s", type(error).__name__)  # noqa: TRY400
                    failures.append(strings.INTERNAL_ERROR.format(type(error).__name__))
            self._failures = failures
            if not drafted:
                self._ended.wait(LOOK_SECONDS)


def fetching(url: str, folder: Path) -> Callable[[], None]:
    """Brings the radiographs of today from a DICOMweb server, again where a study has grown."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    known: dict[str, int] = {}
    asked = -math.inf

    def fetch() -> None:
        nonlocal asked
        if time.monotonic() < asked + ASK_SECONDS:
            return
        asked = time.monotonic()
        for uid, count in find_studies_of_day(url, date.today()).items():
            if known.get(uid) != count:
                fetch_study(url, uid, folder)
                known[uid] = count

    return fetch


def _file(path: Path) -> FileState:
    try:
        found = path.stat()
    except OSError:
        return str(path), 0, 0
    return str(path), found.st_mtime_ns, found.st_size


@lru_cache(maxsize=100_000)
def _header(file: FileState) -> ImageInfo:
    """What a file's header says: read once, however often the folder changes."""
    return read_image_info(Path(file[0]))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _signed_before(audit: AuditLog) -> dict[frozenset[str], str]:
    """Who signed a report of just these images, by their hashes."""
    images: dict[str, frozenset[str]] = {}
    signed = {}
    for entry in audit.entries():
        if entry.event == "draft":
            images[entry.draft] = frozenset(entry.data["images"])
        elif entry.event == "sign" and entry.draft in images:
            name = entry.data["name"]
            signed[images[entry.draft]] = strings.SIGNED_AS.format(name, entry.at[:10])
    return signed
