"""RadGraph, RadCliQ, RaTEScore and GREEN, through the radeval package.

Only radeval 2.2.1 (MIT) can run these scorers on today's transformers. It is optional: ``pip
install --no-deps radeval==2.2.1``. Its own ``__init__`` imports every scorer it has, and its
vendored code asks for the package by an older name; so single modules are imported, without it.
"""

import contextlib
import importlib
import io
import sys
import warnings
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from eval.errors import NotAvailableError
from eval.metrics.base import (
    Direction,
    MeanMetric,
    MetricGroup,
    Setup,
    SufficientStats,
    mean_measure,
    mean_rows,
)
from eval.metrics.bert import (
    BertScore,
    Chexbert,
    local_file,
    local_model,
    weights_id,
)
from eval.metrics.overlap import Bleu
from eval.studies import Pair
from eval.text import CXR_REPORT_METRIC

_NEEDS = {
    "radgraph": "dotmap jsonpickle appdirs h5py",
    "RaTEScore": "medspacy loguru",
    "green_score": "datasets",
}
"""What else a scorer imports, by its package."""


def radeval_module(name: str) -> Any:
    """A module of ``radeval.metrics``, e.g. "radgraph".

    Raises:
        NotAvailableError: says what to install.
    """
    install = f"pip install --no-deps radeval==2.2.1 {_NEEDS[name.partition('.')[0]]}"
    if "radeval" not in sys.modules:
        spec = find_spec("radeval")
        if spec is None or not spec.submodule_search_locations:
            raise NotAvailableError(install)
        package = ModuleType("radeval")
        package.__path__ = list(spec.submodule_search_locations)
        sys.modules["radeval"] = package
    sys.modules.setdefault("RadEval", sys.modules["radeval"])
    try:
        with warnings.catch_warnings():  # its modules change the filters of everybody
            return importlib.import_module(f"radeval.metrics.{name}")
    except ImportError as error:
        raise NotAvailableError(f"{install} ({error})") from error


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep the scorers from printing, warning of files they leave open, and downloading.

    The last by the constant: huggingface_hub, which transformers asks too, read the environment
    long ago.
    """
    from huggingface_hub import constants  # noqa: PLC0415

    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = True
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            yield
    finally:
        constants.HF_HUB_OFFLINE = before


_XL, _ORIGINAL = "radgraph-xl", "radgraph"


class RadGraph(MeanMetric):
    """F1 of the entities and relations that a span model reads."""

    key = "radgraph"
    measures = tuple(
        mean_measure(f"RadGraph F1 {level}", Direction.HIGHER, column=2 * at)
        for at, level in enumerate(("entities", "partial", "complete"))
    )
    width = 6
    batch = 32

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self._models = setup.models
        self.version = f"1-{weights_id(_radgraph_weights(setup.models, _XL))}"
        self._reward: Any = radeval_module("radgraph._vendor.rewards").compute_reward

    def one(self, pair: Pair) -> tuple[float, ...]:
        """F1 at the three levels."""
        if not pair.draft.strip() or not pair.reference.strip():
            return (0.0,) * len(self.measures)
        found = [_annotate(self._models, _XL, text) for text in (pair.draft, pair.reference)]
        return tuple(map(float, self._reward(*found, "all")))


def _radgraph_weights(models: Path, name: str) -> Path:
    """Folder of an unpacked RadGraph archive."""
    source = f"{name}.tar.gz of StanfordAIMI/RRG_scorers, unpacked,"
    return local_file(f"{name}/config.json", source=source, models=models).parent


@lru_cache(maxsize=4096)
def _annotate(models: Path, name: str, text: str) -> dict[str, Any]:
    """Entities of a text, each with its words, its label and its relations."""
    with quiet():
        found: dict[str, Any] = _radgraph(models, name)([" ".join(text.lower().split())])
    return found.get("0") or {"entities": {}}


@lru_cache(maxsize=2)
def _radgraph(models: Path, name: str) -> Any:
    with quiet():
        reader = radeval_module("radgraph").RadGraph
        return reader(model_type=name, model_cache_dir=str(models), cuda=-1)


# Scaler and coefficients of CXR-Report-Metric's v1 model, in the order RadGraph (mean of entity and
# relation F1), BERTScore, CheXbert similarity, BLEU-2; last the intercept.
_MEAN = np.array([0.53792312, 0.61757256, 0.76479421, 0.44738335])
_SCALE = np.array([0.30282584, 0.22430938, 0.25394391, 0.29892717])
_WEIGHTS = np.array([-0.377083683, -0.370300100, -0.252616218, 4.31504841e-12])
_INTERCEPT = 2.46655256e-10


def composite(radgraph: float, bert: float, similarity: float, bleu_2: float) -> float:
    """RadCliQ-v1 of the four scores of one pair; lower is better."""
    scaled = (np.array([radgraph, bert, similarity, bleu_2]) - _MEAN) / _SCALE
    return float(scaled @ _WEIGHTS + _INTERCEPT)


WORST = composite(0.0, BertScore.measures[0].worst, -1.0, 0.0)
"""What a missing draft scores: the worst value of each part."""


class RadCliQ(MeanMetric):
    """RadCliQ-v1 as ReXrank has it: a line through four scores, fitted to radiologists' errors."""

    key = "radcliq"
    measures = (
        mean_measure(
            "RadCliQ-v1", Direction.LOWER, column=0, low=composite(1.0, 1.0, 1.0, 1.0), high=WORST
        ),
    )
    width = 2
    batch = 32

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        radeval_module("radgraph")
        own = weights_id(_radgraph_weights(setup.models, _ORIGINAL))
        self._models = setup.models
        self._bert, self._chexbert = BertScore(setup), Chexbert(setup)
        self._bleu = Bleu(replace(setup, cleaning=CXR_REPORT_METRIC))
        self.version = f"1-{own}-{self._bert.version}-{self._chexbert.version}"

    def one(self, pair: Pair) -> tuple[float]:
        """RadCliQ-v1."""
        if not pair.draft.strip() or not pair.reference.strip():
            return (WORST,)
        found = [_annotate(self._models, _ORIGINAL, t) for t in (pair.reference, pair.draft)]
        graph = (_f1(*map(_entities, found)) + _f1(*map(_relations, found))) / 2
        bert = self._bert.f1(pair.draft, pair.reference)
        similarity = self._chexbert.similarity(pair.draft, pair.reference)
        bleu_2 = float(Bleu.measures[1].combine(self._bleu.score([pair]))[0])
        return (composite(graph, bert, similarity, bleu_2),)


def _entities(found: dict[str, Any]) -> set[tuple[str, str]]:
    return {(entity["tokens"], entity["label"]) for entity in found["entities"].values()}


def _relations(found: dict[str, Any]) -> set[tuple[str, str, str, str, str]]:
    entities = found["entities"]
    return {
        (entity["tokens"], entity["label"], kind, other["tokens"], other["label"])
        for entity in entities.values()
        for kind, target in entity["relations"]
        if (other := entities.get(target))
    }


def _f1(reference: set[Any], draft: set[Any]) -> float:
    shared, total = len(reference & draft), len(reference) + len(draft)
    return 2 * shared / total if total else 0.0


class _BatchScorer(MetricGroup):
    """A scorer that takes drafts and references in lists, and knows no missing draft."""

    width = 2
    module: str
    repositories: tuple[str, ...]

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self.folders = [local_model(name, models=setup.models) for name in self.repositories]
        radeval_module(self.module)
        self.version = f"1-{weights_id(*self.folders)}"

    def score(self, pairs: Sequence[Pair]) -> SufficientStats:
        """One row per pair, 0 where a text is missing or the scorer has no answer: [N, 2]."""
        values = np.zeros((len(pairs), 1))
        at = [i for i, pair in enumerate(pairs) if pair.draft.strip() and pair.reference.strip()]
        if at:
            drafts, references = [pairs[i].draft for i in at], [pairs[i].reference for i in at]
            with quiet():
                found = self.ask(drafts, references)
            values[at, 0] = [value or 0.0 for value in found]
        return mean_rows(values)

    @abstractmethod
    def ask(self, drafts: list[str], references: list[str]) -> Sequence[float | None]:
        """A score of each pair, or None."""


class RateScore(_BatchScorer):
    """RaTEScore: medical entities and their synonyms."""

    key = "ratescore"
    measures = (mean_measure("RaTEScore", Direction.HIGHER, column=0),)
    batch = 32
    module = "RaTEScore.scorer"
    repositories = ("Angelakeke/RaTE-NER-Deberta", "FremyCompany/BioLORD-2023-C")

    def ask(self, drafts: list[str], references: list[str]) -> list[float]:
        """Scores in [0, 1]."""
        scores, *_ = _ratescore(*self.folders).compute_score(drafts, references)
        return [min(max(float(score), 0.0), 1.0) for score in scores]


@lru_cache(maxsize=1)
def _ratescore(reader: Path, synonyms: Path) -> Any:
    scorer = radeval_module(RateScore.module).RaTEScore
    return scorer(bert_model=str(reader), eval_model=str(synonyms), use_gpu=False)


class Green(_BatchScorer):
    """GREEN: a language model counts matched findings and significant errors."""

    key = "green"
    measures = (mean_measure("GREEN", Direction.HIGHER, column=0),)
    batch = 8
    module = "green_score.green"
    repositories = ("StanfordAIMI/GREEN-radllama2-7b",)

    def ask(self, drafts: list[str], references: list[str]) -> list[float | None]:
        """Scores in [0, 1]; None for an answer without a match."""
        _, _, scores, _ = green_model(*self.folders)(refs=references, hyps=drafts)
        return list(scores)


@lru_cache(maxsize=1)
def green_model(folder: Path) -> Any:
    """The judge, loaded once."""
    return radeval_module(Green.module).GREEN(model_name=str(folder))
