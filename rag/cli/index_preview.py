"""`cxr-rag index --dry-run`: what a collection would become, before anything is written or lost."""

from collections import Counter
from collections.abc import Iterator

from encoders.tabular import printable
from rag.corpus.records import Corpus
from rag.grounding.prompt_injection import screen_report
from rag.privacy.reports import mask_identifiers, masked_places


def preview(corpus: Corpus, excluded: frozenset[str]) -> Iterator[str]:
    """Lines that say what `cxr-rag index` would leave out, repair and mask; quotes what it masks.

    Args:
        corpus: as it was read.
        excluded: study ids that are to be left out.
    """
    for problem in corpus.problems:
        yield f"skipped or repaired: {problem}"
    kinds: Counter[str] = Counter()
    reports = indexed = 0
    for record in corpus.records:
        if record.study_id in excluded:
            continue
        indexed += 1
        places = list(masked_places(record))
        reports += bool(places)
        kinds.update(place.kind for place in places)
        yield from (printable(f"masked: {place}") for place in places)
        _, found = screen_report(mask_identifiers(record)[0])
        yield from (printable(f"taken out: {record.report_id}: {reason}") for reason in found)
    named = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common()) or "nothing"
    yield (
        f"would index {indexed} reports and mask {named} in {reports} of them; nothing was written"
    )
