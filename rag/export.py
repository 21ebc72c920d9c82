"""A prediction as text to read, copy or file. The JSON form is `Prediction.to_json`."""

from rag.prediction import Prediction
from rag.schema import NOTICE, DraftSentence, Section, Status


def as_text(prediction: Prediction) -> str:
    """The draft with its citations, then the evidence; the notice first and last.

    A study without a draft says why; evidence is listed whenever there is any.
    """
    lines = [f"*** {NOTICE} ***", f"Film: {prediction.file}", ""]
    if prediction.status is Status.OK:
        for section in Section:
            lines += [section.value.upper(), *map(_cited, prediction.draft.section(section)), ""]
    else:
        lines += [f"NO DRAFT ({prediction.status}): {prediction.reason}", ""]
    lines += [f"Note: {warning}" for warning in prediction.warnings]
    if prediction.hits:
        lines.append("EVIDENCE (reports of other patients, cosine similarity)")
        for hit in prediction.hits:
            text = " ".join(hit.record.text.split())
            lines.append(f"[{hit.record.report_id}] {hit.similarity:.3f}  {text}")
        lines.append("")
    lines += [
        f"model {prediction.llm}, prompt {prediction.prompt} {prediction.prompt_hash[:12]}, "
        f"encoder {prediction.encoder_id}, index {prediction.index_id}",
        f"*** {NOTICE} ***",
    ]
    return "\n".join(lines)


def _cited(sentence: DraftSentence) -> str:
    return f"{sentence.text} [{', '.join(sentence.sources)}]"
