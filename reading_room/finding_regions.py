"""Where the frontal image would show what a sentence states, as the viewer draws it."""

import json

from rag.localization import outlines
from rag.prediction import Prediction
from rag.report_reading import findings_of
from reading_room import strings


def finding_regions(text: str, prediction: Prediction) -> str:
    """JSON of a list with one object a finding: words, and the edges of a contour.

    What a sentence denies has no region.
    """
    present, _ = findings_of(text)
    regions = [
        {
            "words": strings.FINDING_REGION.format(each.finding, each.hits, each.images),
            "side": each.side,
            "edges": each.edges,
        }
        for each in outlines(prediction.maps, present)
    ]
    return json.dumps(regions, separators=(",", ":"))
