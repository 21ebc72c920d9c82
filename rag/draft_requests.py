"""Evidence -> what is asked of the language model, and how its answer is read.

Two ways, chosen by the prompt template's mode: the model selects evidence sentences (`Selection`),
or writes sentences with their sources (`FreeText`). Both are a `DraftRequest`: variables for the
template, a schema for the server, and how to read the answer, whole or as far as it has come.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from prompts.render import Mode
from prompts.schemas import NOTHING, selection_schema, written_schema
from rag.candidates import Candidate, slots_for
from rag.llm.response_checks import validate
from rag.predicted_findings import NO_PREDICTION, PredictedFindings
from rag.schema import Draft, DraftSentence, Hit, Section


class DraftRequest(Protocol):
    """What is asked of the model about one study."""

    @property
    def variables(self) -> Mapping[str, Any]:
        """Variables of the prompt template."""

    @property
    def schema(self) -> dict[str, Any]:
        """JSON schema of the answer."""

    def draft(self, answer: Mapping[str, Any]) -> Draft:
        """The draft that an answer stands for; what is not yet complete is left out."""

    def validate(self, draft: Draft) -> None:
        """Raise an `rag.errors.LlmOutputError` if a whole answer's text is no draft at all."""


def build_request(
    mode: Mode,
    hits: Sequence[Hit],
    *,
    indication: str = "",
    predicted: PredictedFindings = NO_PREDICTION,
) -> DraftRequest:
    """The question that a template of this mode asks about these reports.

    Args:
        mode: of the prompt template.
        hits: the evidence, nearest first.
        indication: why the image was taken, if known.
        predicted: what the image's own labels expect.
    """
    kinds: dict[Mode, type[Selection] | type[FreeText]] = {
        Mode.SELECT: Selection,
        Mode.WRITE: FreeText,
    }
    return kinds[mode](hits, indication=indication, predicted=predicted)


class Selection:
    """The model chooses one numbered sentence a slot; text and sources are the evidence's."""

    def __init__(
        self, hits: Sequence[Hit], *, indication: str, predicted: PredictedFindings
    ) -> None:
        self._slots = slots_for(hits, predicted=predicted)
        self._options: dict[str, dict[str, Candidate]] = {
            slot.name: {f"{_letters(at)}{n}": option for n, option in enumerate(slot.options, 1)}
            for at, slot in enumerate(self._slots)
        }
        self._reports = len(hits)
        self._indication = indication

    @property
    def variables(self) -> Mapping[str, Any]:
        """Slots with their numbered sentences."""
        slots = [
            {
                "name": name,
                "options": [
                    {"id": number, "votes": option.votes, "text": option.text}
                    for number, option in options.items()
                ],
            }
            for name, options in self._options.items()
        ]
        return {"slots": slots, "reports": self._reports, "indication": self._indication}

    @property
    def schema(self) -> dict[str, Any]:
        """One closed choice a heading."""
        return selection_schema({name: list(options) for name, options in self._options.items()})

    @property
    def first_choice(self) -> Mapping[str, Any]:
        """The answer that takes the best sentence of every slot."""
        return {name: next(iter(options)) for name, options in self._options.items()}

    def draft(self, answer: Mapping[str, Any]) -> Draft:
        """The chosen sentences, each once, in the order of a report."""
        sections: dict[Section, dict[str, DraftSentence]] = {section: {} for section in Section}
        for slot in self._slots:
            chosen = self._options[slot.name].get(answer.get(slot.name, NOTHING))
            if chosen is not None:
                sentence = DraftSentence(chosen.text, chosen.sources)
                sections[slot.section].setdefault(chosen.text, sentence)
        findings, impression = (tuple(sections[section].values()) for section in Section)
        return Draft(findings, impression)

    def validate(self, draft: Draft) -> None:
        """Nothing to refuse: every sentence is the evidence's own."""


class FreeText:
    """The model writes sentences and names the reports that each of them rests on."""

    def __init__(
        self, hits: Sequence[Hit], *, indication: str, predicted: PredictedFindings
    ) -> None:
        self._hits = tuple(hits)
        self._indication = indication
        self._expectation = predicted

    @property
    def variables(self) -> Mapping[str, Any]:
        """Reports, nearest first."""
        reports = [
            {
                "id": hit.record.report_id,
                "similarity": round(hit.similarity, 3),
                "findings": hit.record.findings,
                "impression": hit.record.impression,
            }
            for hit in self._hits
        ]
        expected = self._expectation
        labels = [
            {"name": name, "probability": f"{expected.probabilities[name]:.2f}"}
            for name in expected.positive
        ]
        return {"reports": reports, "labels": labels, "indication": self._indication}

    @property
    def schema(self) -> dict[str, Any]:
        """Sentences whose sources are an enum of the shown reports."""
        return written_schema([hit.record.report_id for hit in self._hits])

    def draft(self, answer: Mapping[str, Any]) -> Draft:
        """Sentences that have text and known sources; a source is named once."""
        known = {hit.record.report_id for hit in self._hits}

        def sentences(section: Section) -> tuple[DraftSentence, ...]:
            found = []
            for item in answer.get(section.value) or ():
                text = str(item.get("text", "")).strip() if isinstance(item, Mapping) else ""
                sources = item.get("sources") or () if text else ()
                cited = tuple(dict.fromkeys(source for source in sources if source in known))
                if cited:
                    found.append(DraftSentence(text, cited))
            return tuple(found)

        return Draft(sentences(Section.FINDINGS), sentences(Section.IMPRESSION))

    def validate(self, draft: Draft) -> None:
        """Refusals, loops and other languages."""
        texts = [sentence.text for section in Section for sentence in draft.section(section)]
        validate(texts, evidence=(hit.record.text for hit in self._hits))


def _letters(number: int) -> str:
    """A, B, ... Z, AA, ...: short and different for every slot."""
    before, last = divmod(number, 26)
    return (_letters(before - 1) if before else "") + chr(ord("A") + last)
