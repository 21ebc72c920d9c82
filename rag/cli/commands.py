"""What the commands `query` and `generate` do; `rag.cli.main` only parses and prints."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from itertools import count
from pathlib import Path

from encoders.images.image_io import read_header_identity, read_image
from rag.atomic_io import disk_explained, swap_bytes
from rag.export.dicom_sr import StructuredReportError, as_dicom_sr
from rag.export.text import Export, as_text
from rag.factory import load_encoder, open_pipeline, open_retriever
from rag.llm.vllm_server import LlmServer
from rag.prediction import Prediction
from rag.retriever import ImageQuery, ReportRetriever
from rag.schema import Hit, Status
from rag.settings import Settings
from rag.study import Study

Say = Callable[[str], None]


def run_query(settings: Settings, what: str, *, k: int, as_json: bool) -> Iterator[str]:
    """Lines that show the reports nearest to an image, or to words if there is no such file."""
    encoder = load_encoder(settings)
    with open_retriever(settings, encoder) as retriever:
        path = Path(what)
        if path.is_file():
            hits: Sequence[Hit] = _hits_of_image(retriever, path, k)
        else:
            (hits,) = retriever.store.query(encoder.embed_texts([what]), k)
        for hit in hits:
            record = hit.record
            if as_json:
                found = {"report_id": record.report_id, "similarity": round(hit.similarity, 6)}
                yield json.dumps({**found, "text": record.text}, ensure_ascii=False)
            else:
                text = " ".join(record.text.split())
                yield f"{hit.rank:>2}  {hit.similarity:.3f}  {record.report_id}  {text}"


def run_generate(
    settings: Settings,
    images: Sequence[Path],
    *,
    as_json: bool,
    indication: str,
    study_ids: frozenset[str],
    patient_ids: frozenset[str],
    sr: Path | None,
    say: Say,
    write: Say,
) -> int:
    """Draft a report for each image, in order; returns how many have none.

    With ``sr``, a folder, each draft also becomes a DICOM report there: PARTIAL and UNVERIFIED.

    Starts the language model for the run if nothing answers at its URL and it is ours to start.
    """
    failed = 0
    with ExitStack() as running:
        llm = running.enter_context(LlmServer(settings, say=say))
        pipeline = running.enter_context(open_pipeline(settings, load_encoder(settings)))
        llm.wait()
        for image in images:
            study = Study(
                source=image,
                name=str(image),
                study_ids=study_ids | pipeline.retriever.store.studies_named_in(image),
                patient_ids=patient_ids,
                indication=indication,
            )
            prediction = pipeline.invoke(study)
            failed += prediction.status is not Status.OK
            if sr is not None and prediction.status is Status.OK:
                say(_write_sr(prediction, image, sr))
            if as_json:
                write(json.dumps(prediction.to_json(), ensure_ascii=False))
            else:
                write(as_text(prediction) + "\n")
    return failed


def _write_sr(prediction: Prediction, image: Path, folder: Path) -> str:
    """Write a DICOM report of an image into a folder; returns what is to be said of it."""
    try:
        content = as_dicom_sr(Export.of(prediction), image=image)
    except StructuredReportError as error:
        return f"{image}: no DICOM report: {error}"
    with disk_explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
        names = (f"{image.stem}{'' if n == 1 else f'-{n}'}.sr.dcm" for n in count(1))
        path = next(folder / name for name in names if not (folder / name).exists())
        swap_bytes(path, content, mode=0o600)  # it names the patient
    return f"{image}: DICOM report in {path}"


def _hits_of_image(retriever: ReportRetriever, path: Path, k: int) -> Sequence[Hit]:
    identity = read_header_identity(path)
    image = read_image(path, name=path.name)
    query = ImageQuery(
        vector=retriever.encoder.embed_images([image])[0],
        studies=retriever.store.studies_named_in(path) | frozenset(identity.study_ids),
        patients=frozenset(filter(None, [identity.patient_id])),
    )
    return retriever.retrieve(query, k=k).hits
