"""The sentence-set tower: splitting, frozen sentence vectors, pooling."""

from unittest.mock import patch

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from encoders.towers.sentence_set import (
    MAX_WORDS,
    MiniLm,
    SentenceSet,
    drop_sentences,
    split_sentences,
)

SENTENCES = (
    "The heart is enlarged.",
    "There is a small left pleural effusion.",
    "No pneumothorax.",
    "Degenerative changes of the thoracic spine are seen.",
    "Lungs are clear bilaterally without focal consolidation, effusion or pneumothorax.",
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Clear lungs. Normal heart.", ["Clear lungs.", "Normal heart."]),
        ("Clear lungs\nNormal heart", ["Clear lungs", "Normal heart"]),
        ("1. Clear lungs. 2. Normal heart.", ["Clear lungs.", "Normal heart."]),
        ("A nodule of 2.5 cm is seen.", ["A nodule of 2.5 cm is seen."]),
        ("Compared to XXXX, no change.", ["Compared to , no change."]),
        ("Seen on ___. Stable.", ["Seen on .", "Stable."]),
        ("XXXX. Clear.", ["Clear."]),
        ("XXXX", ["XXXX"]),
        ("  Clear   lungs.  ", ["Clear lungs."]),
    ],
)
def test_a_text_is_split_into_sentences(text: str, expected: list[str]) -> None:
    assert split_sentences(text) == expected


@pytest.mark.parametrize("text", ["", "  \n "])
def test_an_empty_text_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="empty text"):
        split_sentences(text)


@given(st.text(min_size=1).filter(str.strip))
def test_any_text_has_sentences_of_bounded_length(text: str) -> None:
    sentences = split_sentences(text)
    assert sentences
    assert all(sentence.strip() for sentence in sentences)
    assert all(len(sentence.split()) <= MAX_WORDS for sentence in sentences if " " in sentence)


def test_no_word_of_a_report_without_full_stops_is_lost() -> None:
    words = [f"word{number}" for number in range(250)]
    assert " ".join(split_sentences(" ".join(words))).split() == words


@pytest.fixture(scope="module")
def minilm() -> MiniLm:
    return MiniLm()


def test_sentence_vectors_equal_those_of_transformers(minilm: MiniLm) -> None:
    """As the model card says, with the library's tokenizer and padding."""
    from transformers import AutoModel, AutoTokenizer  # noqa: PLC0415

    from encoders.towers.sentence_set import _TOKENIZER  # noqa: PLC0415

    folder = _TOKENIZER.locate().parent
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModel.from_pretrained(folder).eval()
    batch = tokenizer(list(SENTENCES), padding=True, return_tensors="pt")
    with torch.inference_mode():
        hidden = model(**batch).last_hidden_state
    mask = batch["attention_mask"].unsqueeze(-1)
    expected = functional.normalize((hidden * mask).sum(1) / mask.sum(1), dim=1)
    torch.testing.assert_close(minilm.encode(SENTENCES), expected, atol=1e-5, rtol=0)


def test_a_vector_does_not_depend_on_the_batch(
    minilm: MiniLm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(minilm, "CACHE_SIZE", 0)
    monkeypatch.setattr(minilm, "_vectors", {})
    alone = torch.cat([minilm.encode([sentence]) for sentence in SENTENCES])
    together = minilm.encode([*SENTENCES, *reversed(SENTENCES), "Stable."])[: len(SENTENCES)]
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)


def test_sentences_are_cached_up_to_a_limit(
    minilm: MiniLm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(minilm, "CACHE_SIZE", 3)
    monkeypatch.setattr(minilm, "_vectors", {})
    with torch.inference_mode():  # training may follow on the same cache
        first = minilm.encode(SENTENCES[:2])
    with patch.object(minilm, "_encode", wraps=minilm._encode) as encode:
        again = minilm.encode([*reversed(SENTENCES), SENTENCES[0]])
    encode.assert_called_once_with(list(reversed(SENTENCES[2:])))
    assert torch.equal(again[[4, 3]], first)
    assert torch.equal(again[5], first[0])
    assert len(minilm._vectors) == 3
    torch.nn.functional.mse_loss(torch.nn.Linear(384, 1)(again), torch.zeros(6, 1)).backward()


def test_the_order_of_sentences_does_not_matter() -> None:
    tower = SentenceSet(hidden=32).eval()
    reports = [" ".join(SENTENCES[:3]), " ".join(reversed(SENTENCES[:3])), SENTENCES[4]]
    with torch.inference_mode():
        features = tower(tower.prepare(reports))
        alone = tower(tower.prepare(reports[2:]))
    assert features.shape == (3, 32)
    torch.testing.assert_close(features[0], features[1], atol=1e-5, rtol=0)
    torch.testing.assert_close(features[2:], alone, atol=1e-5, rtol=0)


def test_the_frozen_encoder_is_not_in_the_weights() -> None:
    tower = SentenceSet(hidden=32)
    tower.prepare([SENTENCES[0]])  # loads it
    assert {name.split(".")[0] for name in tower.state_dict()} == {"network"}


@settings(max_examples=50)
@given(counts=st.lists(st.integers(1, 9), min_size=1, max_size=6), seed=st.integers(0, 1000))
def test_dropping_sentences_never_empties_a_report(counts: list[int], seed: int) -> None:
    torch.manual_seed(seed)
    present = torch.arange(9) < torch.tensor(counts)[:, None]
    kept = drop_sentences(present, 0.9)
    assert not (kept & ~present).any()
    assert kept.any(1).all()
