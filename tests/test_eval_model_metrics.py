"""Model-based metrics: unavailable without weights, and run with tiny random ones.

No weights can be had here, so no number is checked against a published one but where the formula
is ours; the rest is that the code runs on the real architectures and keeps its conventions.
"""

import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from support import tiny_models
from support.tiny_models import TEXTS

from eval.errors import EvalDataError, NotAvailableError
from eval.metrics import bert, radeval
from eval.metrics.base import KEYS, MODEL_BASED, Setup, load_metrics, metric_class
from eval.studies import Pair
from eval.text import COCO_PTB

PAIRS = [
    Pair("same", TEXTS[0], TEXTS[0]),
    Pair("other", TEXTS[0], TEXTS[1]),
    Pair("missing", TEXTS[0], ""),
]
needs_radeval = pytest.mark.skipif(
    not all(map(find_spec, ("radeval", "dotmap", "jsonpickle", "appdirs", "h5py"))),
    reason="radeval 2.2.1, dotmap, jsonpickle, appdirs and h5py are not installed",
)
needs_loguru = pytest.mark.skipif(find_spec("loguru") is None, reason="loguru is not installed")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    tiny_models.tiny_roberta(folder / "distilroberta-base")
    tiny_models.tiny_chexbert(folder)
    return folder


def setup_of(models: Path) -> Setup:
    return Setup(COCO_PTB, tuple(TEXTS), models)


@pytest.fixture(autouse=True)
def no_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Use neither this machine's cache nor the network."""
    monkeypatch.setattr("eval.metrics.bert._cached_snapshot", lambda _: None)


@pytest.mark.parametrize("key", MODEL_BASED)
def test_without_weights_it_says_what_to_put_where(key: str, tmp_path: Path) -> None:
    ready, missing = load_metrics([key], setup_of(tmp_path / "models"))
    assert ready == []
    cures = "pip install", str(tmp_path / "models"), "--judge URL"
    assert any(cure in missing[key] for cure in cures)


@pytest.mark.parametrize("key", KEYS)
def test_measures_are_known_without_weights(key: str) -> None:
    assert all(measure.name and measure.direction for measure in metric_class(key).measures)


def test_only_the_local_hub_cache_is_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.undo()
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("socket.socket.connect", lambda *_: pytest.fail("asked the net"))
    with pytest.raises(NotAvailableError, match="hf download distilroberta-base"):
        metric_class("bertscore")(setup_of(tmp_path / "models"))


def test_libraries_are_offline_while_scoring() -> None:
    from huggingface_hub import is_offline_mode  # noqa: PLC0415

    before = is_offline_mode()
    with radeval.quiet():
        assert is_offline_mode()
    assert is_offline_mode() == before


def test_bertscore(models: Path) -> None:
    metric = metric_class("bertscore")(setup_of(models))
    same, other, missing = bert.BertScore.measures[0].combine(metric.score(PAIRS))
    assert same == pytest.approx(1, abs=1e-5)
    assert other < 0.99
    assert missing == bert.BertScore.measures[0].worst
    again = bert.BertScore.measures[0].combine(metric.score([PAIRS[1]]))
    assert again[0] == other  # evaluation mode is deterministic


def test_bertscore_matches_greedily_and_ignores_special_tokens(models: Path) -> None:
    """The definition, written out (Zhang et al. 2020, equations 1 to 3)."""
    folder = models / "distilroberta-base"
    ours, theirs = (bert.embed_tokens(folder, text).numpy() for text in (TEXTS[1], TEXTS[0]))
    recall = [max(float(a @ b) for b in ours) for a in theirs[1:-1]]
    precision = [max(float(a @ b) for b in theirs) for a in ours[1:-1]]
    p, r = np.mean(precision), np.mean(recall)
    expected = (2 * p * r / (p + r) - bert.BERTSCORE_BASELINE) / (1 - bert.BERTSCORE_BASELINE)
    found = bert.BertScore(setup_of(models)).f1(TEXTS[1], TEXTS[0])
    assert found == pytest.approx(expected, abs=1e-5)


def test_chexbert(models: Path) -> None:
    metric = metric_class("chexbert")(setup_of(models))
    rows = metric.score(PAIRS)
    scores = {m.name: m.combine(rows) for m in metric.measures}
    assert scores["CheXbert similarity"][0] == pytest.approx(1, abs=1e-5)
    assert scores["CheXbert similarity"][2] == -1
    for name in ("CheXbert micro F1-14 (u=1)", "CheXbert micro F1-14 (u=0)"):
        assert scores[name][0] == 1
        assert scores[name][2] == 0
    assert len(metric.measures) == 9
    found = metric.labels(TEXTS[0])
    assert set(found) <= set(bert.CHEXBERT_LABELS)
    assert set(found.values()) <= {"positive", "negative", "uncertain"}
    assert metric.labels(" ") == {}


def test_chexbert_heads_are_in_order(models: Path, tmp_path: Path) -> None:
    """A checkpoint whose heads answer by their biases alone."""
    import torch  # noqa: PLC0415

    tiny_models.tiny_chexbert(tmp_path)
    path = tmp_path / "chexbert.pth"
    saved = torch.load(path, weights_only=True)
    state = saved["model_state_dict"]
    for i in range(14):
        state[f"module.linear_heads.{i}.weight"].zero_()
        state[f"module.linear_heads.{i}.bias"][i % (4 if i < 13 else 2)] = 1
    torch.save(saved, path)
    found = metric_class("chexbert")(setup_of(tmp_path)).labels("Anything.")
    assert found == {
        name: bert.CHEXBERT_STATES[i % 4]
        for i, name in enumerate(bert.CHEXBERT_LABELS[:13])
        if i % 4
    } | {"No Finding": "positive"}


def test_another_checkpoint_is_refused(models: Path, tmp_path: Path) -> None:
    import torch  # noqa: PLC0415

    tiny_models.tiny_bert(tmp_path / "bert-base-uncased", with_weights=False)
    torch.save({"model_state_dict": {"module.x": torch.zeros(1)}}, tmp_path / "chexbert.pth")
    with pytest.raises(EvalDataError, match="not CheXbert's checkpoint"):
        metric_class("chexbert")(setup_of(tmp_path)).score(PAIRS[:1])


def test_the_version_changes_with_the_weights(models: Path, tmp_path: Path) -> None:
    tiny_models.tiny_chexbert(tmp_path)
    first = metric_class("chexbert")(setup_of(tmp_path)).version
    assert metric_class("chexbert")(setup_of(tmp_path)).version == first
    with (tmp_path / "chexbert.pth").open("ab") as file:
        file.write(b"\0")
    assert metric_class("chexbert")(setup_of(tmp_path)).version != first


def test_radcliq_by_hand() -> None:
    """The mean of the fit scores 0; a higher part lowers the score; parts as in ReXrank."""
    assert radeval.radcliq_v1(0.53792312, 0.61757256, 0.76479421, 0.44738335) == pytest.approx(
        0, abs=1e-9
    )
    base = radeval.radcliq_v1(0.2, 0.4, 0.3, 0.1)
    assert base == pytest.approx(
        0.377083683 * (0.53792312 - 0.2) / 0.30282584
        + 0.3703001 * (0.61757256 - 0.4) / 0.22430938
        + 0.252616218 * (0.76479421 - 0.3) / 0.25394391,
        rel=1e-6,
    )
    for changed in [(0.3, 0.4, 0.3, 0.1), (0.2, 0.5, 0.3, 0.1), (0.2, 0.4, 0.4, 0.1)]:
        assert radeval.radcliq_v1(*changed) < base


@needs_radeval
@pytest.mark.slow
def test_radgraph_and_radcliq_through_radeval(models: Path) -> None:
    for name in ("radgraph", "radgraph-xl"):
        tiny_models.tiny_radgraph(models, name)
    metric = metric_class("radgraph")(setup_of(models))
    rows = metric.score(PAIRS)
    for measure in metric.measures:
        same, other, missing = measure.combine(rows)
        assert (same, missing) == (1, 0)
        assert 0 <= other < 1
    upper = metric.score([Pair("upper", TEXTS[0].upper(), TEXTS[0])])
    assert upper[0, 0] == 1  # case does not count
    radcliq = metric_class("radcliq")(setup_of(models))
    same, other, missing = radcliq.measures[0].combine(radcliq.score(PAIRS))
    assert same == pytest.approx(radeval.radcliq_v1(1, 1, 1, 1), abs=1e-3)
    assert same < other < missing
    assert missing == radeval.WORST_RADCLIQ


@pytest.fixture
def fake_medspacy(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fake sentence splitter in place of medspaCy, which needs half a gigabyte."""
    fake: Any = ModuleType("medspacy")

    def load(**_: Any) -> Any:
        return lambda text: SimpleNamespace(sents=[s for s in text.split(". ") if s])

    fake.load = load
    monkeypatch.setitem(sys.modules, "medspacy", fake)


@needs_radeval
@needs_loguru
@pytest.mark.slow
@pytest.mark.usefixtures("fake_medspacy")
def test_ratescore_through_radeval(models: Path) -> None:
    tiny_models.tiny_ratescore(models)
    metric = metric_class("ratescore")(setup_of(models))
    same, other, missing = metric.measures[0].combine(metric.score(PAIRS))
    assert 0 <= other <= 1
    assert 0 < same <= 1
    assert missing == 0
    nothing = metric.score([PAIRS[2]])
    assert metric.measures[0].combine(nothing)[0] == 0


class FakeDataset:
    """A fake of the two things radeval asks of the `datasets` package."""

    def __init__(self, columns: dict[str, list[Any]]) -> None:
        self._columns = columns

    @classmethod
    def from_dict(cls, columns: dict[str, list[Any]]) -> "FakeDataset":
        return cls(columns)

    def map(self, function: Any, *, batched: bool) -> "FakeDataset":
        assert batched
        return FakeDataset(self._columns | function(self._columns))

    def __getitem__(self, name: str) -> list[Any]:
        return self._columns[name]


@pytest.fixture
def fake_datasets(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    fake: Any = ModuleType("datasets")
    fake.Dataset = FakeDataset
    monkeypatch.setitem(sys.modules, "datasets", fake)
    return


@needs_radeval
@pytest.mark.slow
@pytest.mark.usefixtures("fake_datasets")
def test_green_through_radeval(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny_models.tiny_green(models)
    metric = metric_class("green")(setup_of(models))
    scores = metric.measures[0].combine(metric.score(PAIRS))
    assert scores.tolist() == [0, 0, 0]  # a random model matches nothing
    answer = (
        "[Explanation]:\nfine\n\n[Clinically Significant Errors]:\n"
        "(a) False report of a finding in the candidate: 1. effusion\n\n[Matched Findings]:\n"
        "3. heart; lungs; pleura"
    )
    model = radeval.load_green(models / "GREEN-radllama2-7b")
    monkeypatch.setattr(model, "get_response", lambda batch: [answer] * len(batch["prompt"]))
    assert metric.measures[0].combine(metric.score(PAIRS)).tolist() == [0.75, 0.75, 0]
