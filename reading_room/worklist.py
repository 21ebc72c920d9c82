"""The studies of a folder, drafted ahead and listed by urgency.

One worker scans the folder (a C-STORE inbox, or where studies of a DICOMweb server are put) and
drafts new studies one by one, so that the draft is there when a reader opens the study. Drafts are
kept in memory; who signed what is read from the audit record, by the hashes of the images.
"""

import hashlib
import logging
import math
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from pathlib import Path

from encoders.image_io import read_image_info
from encoders.images.image_info import ImageInfo
from rag.batch.grouping import group_images
from rag.batch.inputs import BatchStudy, list_images
from rag.errors import CxrRagError
from rag.pacs.dicomweb import fetch_study, find_studies_of_day
from rag.pipeline import ReportPipeline
from rag.review.audit import AuditLog
from rag.review.reviewed_report import ReviewedReport
from reading_room import strings
from reading_room.image_opener import MAX_IMAGES, validate_prior
from reading_room.listed_study import FileStamp, ListedStudy, StudyState
from reading_room.session import Session
from reading_room.templating import render

logger = logging.getLogger(__name__)

SCAN_INTERVAL_S = 5.0
"""How often the folder is scanned, and the page updates its list."""
_FETCH_INTERVAL_S = 60.0
_RETRY_AFTER_S = 60.0


class Worklist:
    """Scans a folder, drafts ahead, and keeps what readers made of its studies.

    Args:
        folder: of the images; subfolders count.
        pipeline: makes the drafts.
        audit: the record with earlier signatures, if there is one.
        calibrated: whether the probabilities were calibrated on studies of this hospital.
        fetch: puts new images into the folder before each scan.
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
        self._steps = [step for step in (fetch, self.scan, self.draft_next) if step]
        self._signatures = _read_signatures(audit) if audit else {}
        self._studies: dict[str, ListedStudy] = {}
        self._headers: dict[FileStamp, ImageInfo] = {}  # of the files in the folder
        # by study and reader; a signed one is every reader's, under None
        self._sessions: dict[tuple[str, str | None], Session] = {}
        self._scanned_files: frozenset[FileStamp] | None = None
        self._failures: list[str] = []
        self._unusable: list[str] = []
        self._lock = threading.Lock()
        self._closed = threading.Event()

    def start(self) -> None:
        """Scan and draft in the background until `close`."""
        threading.Thread(target=self._work, name="worklist", daemon=True).start()

    def close(self) -> None:
        """Start no further draft."""
        self._closed.set()

    def studies(self) -> list[ListedStudy]:
        """Drafted studies, urgent first; then waiting, refused and signed ones."""
        order = list(StudyState)
        return sorted(
            self._studies.values(),
            key=lambda study: (
                order.index(study.state),
                -study.urgency[0],
                study.info.study_time,
            ),
        )

    def find(self, key: object) -> ListedStudy | None:
        """A study by its key, as the browser sent it."""
        return self._studies.get(str(key))

    def html(self) -> str:
        """The list as it is shown."""
        studies = self.studies()
        by_urgency = strings.BY_CALIBRATED_URGENCY if self._calibrated else strings.BY_URGENCY
        ranked = any(finding for _, finding in (study.urgency for study in studies))
        return render(
            "worklist.html",
            studies=studies,
            order=by_urgency if ranked else strings.BY_DATE,
            problems=[*self._failures, *self._unusable],
        )

    def save_session(self, session: Session, *, reader: str) -> None:
        """Keep a reader's session with a study; a signed one becomes every reader's."""
        key, report = session.study_key, session.report
        if not key or report is None:
            return
        with self._lock:
            study, signed = self._studies.get(key), self.signed_report(key)
            images = {Path(image.path) for image in session.images}
            if study is None or images != set(study.images[:MAX_IMAGES]):
                return  # the study has other images now
            if report.signature is None:
                self._sessions[key, reader] = session
            elif signed is None or len(signed.addenda) <= len(report.addenda):
                by = strings.SIGNED_AS.format(report.signature.name, report.signature.at[:10])
                self._sessions[key, None] = session
                self._studies[key] = replace(study, signed=by)

    def saved_session(self, key: str, *, reader: str) -> Session | None:
        """The signed session of a study, else this reader's."""
        return self._sessions.get((key, None)) or self._sessions.get((key, reader))

    def signed_report(self, key: str) -> ReviewedReport | None:
        """The signed report of a study, with every addendum."""
        session = self._sessions.get((key, None))
        return session.report if session else None

    def scan(self) -> None:
        """Update the list from the folder.

        Raises:
            CxrRagError: there is no such folder.
        """
        listing = list_images(self._folder)
        stamps = {image.path: _stamp(image.path) for image in listing.images}
        if (files := frozenset(stamps.values())) == self._scanned_files:
            return
        headers: dict[FileStamp, ImageInfo] = {}

        def read(path: Path) -> ImageInfo:
            stamp = stamps[path]
            headers[stamp] = self._headers.get(stamp) or read_image_info(path)
            return headers[stamp]

        studies, problems = group_images(listing.images, read=read)
        self._headers = headers
        scanned = {}
        for study in studies:
            earlier = [path for path in study.prior.files if isinstance(path, Path)]
            paths = [study.source, *study.other_views, *earlier]
            study_files = tuple(stamps[path] for path in paths)
            known = self._studies.get(study.study_id)
            if known is None or known.files != study_files:
                known = _list_study(study, study_files, headers.get(study_files[0]))
            scanned[study.study_id] = known
        with self._lock:
            for key, listed in scanned.items():
                known = self._studies.get(key)
                if known and known.files == listed.files:  # it may have been signed meanwhile
                    scanned[key] = known
            self._sessions = {
                (key, reader): session
                for (key, reader), session in self._sessions.items()
                if key in scanned and scanned[key] is self._studies.get(key)
            }
            self._studies = scanned
        self._unusable = problems
        self._scanned_files = files

    def draft_next(self) -> bool:
        """Draft the oldest waiting study; returns whether there was one."""
        retry_before = time.time() - _RETRY_AFTER_S
        waiting = (study for study in self.studies() if study.state is StudyState.WAITING)
        due = (study for study in waiting if study.drafted_at < retry_before)
        listed = min(due, key=lambda study: study.info.study_time, default=None)
        if listed is None:
            return False
        try:
            # the images that `Controller.open_study` opens and the audit record names
            hashes = [_sha256(path) for path in listed.images[:MAX_IMAGES]]
        except OSError:  # deleted since the scan
            self._scanned_files = None
            return True
        if signed := self._signatures.get(frozenset(hashes)):
            self._replace(listed, replace(listed, signed=signed))
            return True
        study = replace(
            listed.study,
            # drafts are exported, and the names of file and folder may contain the patient's
            name=f"image {hashes[0][:12]}",
            study_id="",
            exclude=replace(listed.study.exclude, studies=frozenset({listed.key})),
            prior=listed.prior,
        )
        prediction = self._pipeline.invoke(study)
        self._replace(listed, replace(listed, prediction=prediction, drafted_at=time.time()))
        return True

    def _replace(self, old: ListedStudy, new: ListedStudy) -> None:
        """Replace a study, unless it has changed or was signed meanwhile."""
        with self._lock:
            if self._studies.get(old.key) is old:
                self._studies[old.key] = new

    def _work(self) -> None:
        while not self._closed.is_set():
            failures: list[str] = []
            drafted = False
            for step in self._steps:
                try:
                    drafted = bool(step())
                except (CxrRagError, OSError) as error:
                    failures.append(str(error))
                except Exception as error:  # noqa: BLE001 - the worker must go on
                    # the message may quote a header, so only its type is logged
                    logger.error("the worklist failed: %s", type(error).__name__)  # noqa: TRY400
                    failures.append(strings.INTERNAL_ERROR.format(type(error).__name__))
            self._failures = failures
            if not drafted:
                self._closed.wait(SCAN_INTERVAL_S)


def dicomweb_fetcher(url: str, folder: Path) -> Callable[[], None]:
    """Fetches today's radiographs from a DICOMweb server, once a minute; grown studies again."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    image_counts: dict[str, int] = {}
    last_fetch = -math.inf

    def fetch() -> None:
        nonlocal last_fetch
        if time.monotonic() < last_fetch + _FETCH_INTERVAL_S:
            return
        last_fetch = time.monotonic()
        for uid, count in find_studies_of_day(url, date.today()).items():
            if image_counts.get(uid) != count:
                fetch_study(url, uid, folder)
                image_counts[uid] = count

    return fetch


def _list_study(
    study: BatchStudy, files: tuple[FileStamp, ...], info: ImageInfo | None
) -> ListedStudy:
    """A new line of the list."""
    listed = ListedStudy(study, files, info=info or ImageInfo())
    if study.prior and info:
        try:
            prior, _ = validate_prior(study.prior, info)
            return replace(listed, prior=prior)
        except CxrRagError:
            pass  # drafting it will say why; a prior that cannot be used is not compared
    return listed


def _stamp(path: Path) -> FileStamp:
    try:
        status = path.stat()
    except OSError:
        return str(path), 0, 0
    return str(path), status.st_mtime_ns, status.st_size


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read_signatures(audit: AuditLog) -> dict[frozenset[str], str]:
    """Who signed a report, by the hashes of exactly its images."""
    images: dict[str, frozenset[str]] = {}
    signatures = {}
    for entry in audit.entries():
        if entry.event == "draft":
            images[entry.draft] = frozenset(entry.data["images"])
        elif entry.event == "sign" and entry.draft in images:
            name = entry.data["name"]
            signatures[images[entry.draft]] = strings.SIGNED_AS.format(name, entry.at[:10])
    return signatures
