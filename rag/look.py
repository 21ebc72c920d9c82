"""What the films of a study show: vectors, expected labels, or why they are no ground for a draft.

Owns reading, refusing, encoding and steering, in this order. Knows no report and no model.
"""

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray

from encoders.base import CxrImage, ImageTextEncoder
from encoders.film_facts import FilmFacts, read_facts
from encoders.image_io import BLANK, ImageReadError, read_image
from encoders.steering import CropSteering, Steering
from rag.attention import Attention
from rag.expectation import NOTHING_KNOWN, Expectation
from rag.label_head import LabelHead
from rag.refusal import Refusal, Verdict, judge_colour, judge_header
from rag.refusal_pixels import FeatureEncoder, PixelJudge
from rag.study import Study, Work


@dataclass(frozen=True, slots=True)
class Look:
    """What was seen on a study's films. Holds pixels, tens of megabytes: not for keeping.

    Attributes:
        facts: of the frontal film's header.
        film: the frontal film.
        vectors: of all views, the frontal first, float32 [views, dim], norm 1.
        expectation: labels read off the frontal film.
    """

    facts: FilmFacts
    film: CxrImage
    vectors: NDArray[np.float32]
    expectation: Expectation


class Looker:
    """Looks at the films of a study.

    Args:
        encoder: films to vectors.
        label_head: predicts the film's labels; None where the encoder has none.
        judge: refuses films whose pixels are strange (the encoder must show its features); None
            where none is calibrated.
        steering: how a region of the reader's acts on the search; a crop by default.
    """

    def __init__(
        self,
        encoder: ImageTextEncoder,
        *,
        label_head: LabelHead | None,
        judge: PixelJudge | None,
        steering: Steering | None,
    ) -> None:
        self.steering = steering or CropSteering(encoder)
        self._encoder = encoder
        self._label_head = label_head
        self._judge = judge

    def look(self, study: Study, work: Work) -> Generator[None, None, Look | None]:
        """What is seen, given back at the end; None, and the work has ended, on no chest film.

        Yields once, when the films have been read.

        Raises:
            ImageReadError: the first film cannot be read.
        """
        with work.stage("read"):
            facts = read_facts(study.source)
            verdict = judge_header(facts)
            films = [] if verdict.refusal else list(_films(study, work))
        work.note(verdict.notes)
        yield
        if verdict.refusal:
            _refuse(work, verdict.refusal)
            return None
        if BLANK in films[0].warnings:
            work.abstain("BlankFilm", BLANK)
            return None
        if colour := judge_colour(films[0].warnings):
            _refuse(work, colour)
            return None
        with work.stage("encode"):
            vectors, seen = self._embed(films)
        if seen.refusal:
            _refuse(work, seen.refusal)
            return None
        work.note(seen.notes)
        expectation = self._label_head.expect(vectors[0]) if self._label_head else NOTHING_KNOWN
        return Look(facts, films[0], vectors, expectation)

    def _embed(self, films: Sequence[CxrImage]) -> tuple[NDArray[np.float32], Verdict]:
        """Vectors of all views, and what the first one looks like."""
        if self._judge is None:
            return self._encoder.embed_images(films), Verdict()
        vectors, features = cast(FeatureEncoder, self._encoder).embed_with_features(films)
        return vectors, self._judge.judge(features[0])

    def steered(self, look: Look, attention: Attention) -> NDArray[np.float32]:
        """Vectors to ask with; the film's labels and its refusal stay those of the whole film."""
        if not attention:
            return look.vectors
        first = self.steering.steer(look.film, look.vectors[0], attention.heatmap())
        return np.concatenate([first[np.newaxis], look.vectors[1:]])


def _films(study: Study, work: Work) -> Iterator[CxrImage]:
    """The frontal film, and of the further views those that can be read."""
    first = read_image(study.source, name=study.name)
    work.note(first.warnings)
    yield first
    for number, source in enumerate(study.further, 2):
        try:
            film = read_image(source)
        except ImageReadError as error:
            work.note((f"view {number} was left out: {error.reason.value}",))
        else:
            if BLANK not in film.warnings:
                yield film


def _refuse(work: Work, refusal: Refusal) -> None:
    work.abstain("NotAChestFilm", refusal.reason)
