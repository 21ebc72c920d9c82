"""What the commands `query` and `generate` do; `rag.cli` only parses and prints."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

from encoders.image_io import read_header_identity, read_image
from rag.assembly import load_encoder, open_pipeline, open_retriever
from rag.export import as_text
from rag.retriever import FilmQuery, ReportRetriever
from rag.schema import Hit, Status
from rag.server import LlmServer
from rag.settings import Settings
from rag.study import Study

Say = Callable[[str], None]


def run_query(settings: Settings, what: str, *, k: int, as_json: bool) -> Iterator[str]:
    """Lines that show the reports nearest to a film, or to words if there is no such file."""
    encoder = load_encoder(settings)
    with open_retriever(settings, encoder) as retriever:
        path = Path(what)
        if path.is_file():
            hits: Sequence[Hit] = _hits_of_film(retriever, path, k)
        else:
            (hits,) = retriever.store.query(encoder.embed_texts([what]), k, distinct=True)
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
    films: Sequence[Path],
    *,
    as_json: bool,
    indication: str,
    study_ids: frozenset[str],
    patient_ids: frozenset[str],
    say: Say,
    write: Say,
) -> int:
    """Draft a report for each film, in order; returns how many have none.

    Starts the language model for the run if nothing answers at its URL and it is ours to start.
    """
    failed = 0
    with ExitStack() as running:
        llm = running.enter_context(LlmServer(settings, say=say))
        pipeline = running.enter_context(open_pipeline(settings, load_encoder(settings)))
        llm.wait()
        for film in films:
            study = Study(
                source=film,
                name=str(film),
                study_ids=study_ids | pipeline.retriever.store.studies_named_in(film),
                patient_ids=patient_ids,
                indication=indication,
            )
            prediction = pipeline.invoke(study)
            failed += prediction.status is not Status.OK
            if as_json:
                write(json.dumps(prediction.to_json(), ensure_ascii=False))
            else:
                write(as_text(prediction) + "\n")
    return failed


def _hits_of_film(retriever: ReportRetriever, path: Path, k: int) -> Sequence[Hit]:
    identity = read_header_identity(path)
    image = read_image(path, name=path.name)
    query = FilmQuery(
        vector=retriever.encoder.embed_images([image])[0],
        studies=retriever.store.studies_named_in(path) | frozenset(identity.study_ids),
        patients=frozenset(filter(None, [identity.patient_id])),
    )
    return retriever.retrieve(query, k=k).hits
