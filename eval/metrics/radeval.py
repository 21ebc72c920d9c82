"""RadGraph, RadCliQ, RaTEScore and GREEN, through the optional package radeval 2.2.1.

Only radeval can run these scorers on current versions of transformers. Its ``__init__`` imports
every scorer, and its vendored code imports it by an older name, so single modules are imported
around it.
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

_EXTRA_PACKAGES = {
    "radgraph": "dotmap jsonpickle appdirs h5py",
    "RaTEScore": "medspacy loguru",
    "green_score": "datasets",
}
"""Further imports of a scorer."""


def radeval_module(name: str) -> Any:
    """A module of ``radeval.metrics``, e.g. "radgraph".

    Raises:
        NotAvailableError: says what to install.
    """
    install = f"pip install --no-deps radeval==2.2.1 {_EXTRA_PACKAGES[name.partition('.')[0]]}"
    if "radeval" not in sys.modules:
        spec = find_spec("radeval")
        if spec is None or not spec.submodule_search_locations:
            raise NotAvailableError(install)
        package = ModuleType("radeval")
        package.__path__ = list(spec.submodule_search_locations)
        sys.modules["radeval"] = package
    sys.modules.setdefault("RadEval", sys.modules["radeval"])
    try:
        with warnings.catch_warnings():  # its modules change the global filters
            return importlib.import_module(f"radeval.metrics.{name}")
    except ImportError as error:
        raise NotAvailableError(f"{install} ({error})") from error


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep the scorers from printing, warning about unclosed files, and downloading."""
    from huggingface_hub import constants  # noqa: PLC0415

    before = constants.HF_HUB_OFFLINE  # the environment variable is read at import only
    constants.HF_HUB_OFFLINE = True
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            yield
    finally:
        constants.HF_HUB_OFFLINE = before


_RADGRAPH_XL, _RADGRAPH = "radgraph-xl", "radgraph"


class RadGraph(MeanMetric):
    """F1 of the entities and relations that RadGraph-XL extracts."""

    key = "radgraph"
    measures = tuple(
        mean_measure(f"RadGraph F1 {level}", Direction.HIGHER, column=2 * i)
        for i, level in enumerate(("entities", "partial", "complete"))
    )
    width = 6
    batch_size = 32

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self._models = setup.models
        self.version = f"1-{weights_id(_radgraph_folder(setup.models, _RADGRAPH_XL))}"
        self._reward: Any = radeval_module("radgraph._vendor.rewards").compute_reward

    def score_pair(self, pair: Pair) -> tuple[float, ...]:
        """F1 at the three levels."""
        if not pair.draft.strip() or not pair.reference.strip():
            return (0.0,) * len(self.measures)
        texts = pair.draft, pair.reference
        graphs = [_extract_graph(self._models, _RADGRAPH_XL, text) for text in texts]
        return tuple(map(float, self._reward(*graphs, "all")))


def _radgraph_folder(models: Path, name: str) -> Path:
    """Folder of an unpacked RadGraph archive."""
    source = f"{name}.tar.gz of StanfordAIMI/RRG_scorers, unpacked,"
    return local_file(f"{name}/config.json", source=source, models=models).parent


@lru_cache(maxsize=4096)
def _extract_graph(models: Path, name: str, text: str) -> dict[str, Any]:
    """Entities of a text, each with its words, label and relations."""
    with quiet():
        graphs: dict[str, Any] = _load_radgraph(models, name)([" ".join(text.lower().split())])
    return graphs.get("0") or {"entities": {}}


@lru_cache(maxsize=2)
def _load_radgraph(models: Path, name: str) -> Any:
    with quiet():
        model = radeval_module("radgraph").RadGraph
        return model(model_type=name, model_cache_dir=str(models), cuda=-1)


# Scaler and coefficients of CXR-Report-Metric's v1 model, in the order RadGraph (mean of entity and
# relation F1), BERTScore, CheXbert similarity, BLEU-2.
_MEAN = np.array([0.53792312, 0.61757256, 0.76479421, 0.44738335])
_SCALE = np.array([0.30282584, 0.22430938, 0.25394391, 0.29892717])
_WEIGHTS = np.array([-0.377083683, -0.370300100, -0.252616218, 4.31504841e-12])
_INTERCEPT = 2.46655256e-10


def radcliq_v1(radgraph: float, bert: float, similarity: float, bleu_2: float) -> float:
    """RadCliQ-v1 of the four scores of one pair; lower is better."""
    scaled = (np.array([radgraph, bert, similarity, bleu_2]) - _MEAN) / _SCALE
    return float(scaled @ _WEIGHTS + _INTERCEPT)


WORST_RADCLIQ = radcliq_v1(0.0, BertScore.measures[0].worst, -1.0, 0.0)
"""The score of a missing draft: the worst value of each part."""


class RadCliQ(MeanMetric):
    """RadCliQ-v1 as in ReXrank: linear in four scores, fitted to radiologists' error counts."""

    key = "radcliq"
    measures = (
        mean_measure(
            "RadCliQ-v1",
            Direction.LOWER,
            column=0,
            low=radcliq_v1(1.0, 1.0, 1.0, 1.0),
            high=WORST_RADCLIQ,
        ),
    )
    width = 2
    batch_size = 32

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        radeval_module("radgraph")
        radgraph = weights_id(_radgraph_folder(setup.models, _RADGRAPH))
        self._models = setup.models
        self._bert, self._chexbert = BertScore(setup), Chexbert(setup)
        self._bleu = Bleu(replace(setup, cleaning=CXR_REPORT_METRIC))
        self.version = f"1-{radgraph}-{self._bert.version}-{self._chexbert.version}"

    def score_pair(self, pair: Pair) -> tuple[float]:
        """RadCliQ-v1."""
        if not pair.draft.strip() or not pair.reference.strip():
            return (WORST_RADCLIQ,)
        graphs = [_extract_graph(self._models, _RADGRAPH, t) for t in (pair.reference, pair.draft)]
        radgraph = (_f1(*map(_entities, graphs)) + _f1(*map(_relations, graphs))) / 2
        bert = self._bert.f1(pair.draft, pair.reference)
        similarity = self._chexbert.similarity(pair.draft, pair.reference)
        bleu_2 = float(Bleu.measures[1].combine(self._bleu.score([pair]))[0])
        return (radcliq_v1(radgraph, bert, similarity, bleu_2),)


def _entities(graph: dict[str, Any]) -> set[tuple[str, str]]:
    return {(entity["tokens"], entity["label"]) for entity in graph["entities"].values()}


def _relations(graph: dict[str, Any]) -> set[tuple[str, str, str, str, str]]:
    entities = graph["entities"]
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
    """A scorer of lists of drafts and references that cannot handle missing drafts."""

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
        index = [i for i, pair in enumerate(pairs) if pair.draft.strip() and pair.reference.strip()]
        if index:
            with quiet():
                scores = self.score_texts(
                    [pairs[i].draft for i in index], [pairs[i].reference for i in index]
                )
            values[index, 0] = [score or 0.0 for score in scores]
        return mean_rows(values)

    @abstractmethod
    def score_texts(self, drafts: list[str], references: list[str]) -> Sequence[float | None]:
        """A score of each pair, or None."""


class RateScore(_BatchScorer):
    """RaTEScore: medical entities and their synonyms."""

    key = "ratescore"
    measures = (mean_measure("RaTEScore", Direction.HIGHER, column=0),)
    batch_size = 32
    module = "RaTEScore.scorer"
    repositories = ("Angelakeke/RaTE-NER-Deberta", "FremyCompany/BioLORD-2023-C")

    def score_texts(self, drafts: list[str], references: list[str]) -> list[float]:
        """Scores in [0, 1]."""
        scores, *_ = _load_ratescore(*self.folders).compute_score(drafts, references)
        return [min(max(float(score), 0.0), 1.0) for score in scores]


@lru_cache(maxsize=1)
def _load_ratescore(entity_model: Path, synonym_model: Path) -> Any:
    scorer = radeval_module(RateScore.module).RaTEScore
    return scorer(bert_model=str(entity_model), eval_model=str(synonym_model), use_gpu=False)


class Green(_BatchScorer):
    """GREEN: a language model counts matched findings and significant errors."""

    key = "green"
    measures = (mean_measure("GREEN", Direction.HIGHER, column=0),)
    batch_size = 8
    module = "green_score.green"
    repositories = ("StanfordAIMI/GREEN-radllama2-7b",)

    def score_texts(self, drafts: list[str], references: list[str]) -> list[float | None]:
        """Scores in [0, 1]; None for an answer without a match."""
        _, _, scores, _ = load_green(*self.folders)(refs=references, hyps=drafts)
        return list(scores)


@lru_cache(maxsize=1)
def load_green(folder: Path) -> Any:
    """GREEN's language model."""
    return radeval_module(Green.module).GREEN(model_name=str(folder))
