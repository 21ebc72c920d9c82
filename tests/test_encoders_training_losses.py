"""InfoNCE against values computed by hand, and soft targets."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from encoders.training.objective import info_nce, jaccard, soft_targets

ONE = torch.tensor(1.0)


def test_info_nce_of_two_perfect_pairs() -> None:
    """Similarities 1 and 0 at temperature 1: -log(e / (e + 1)) in both directions."""
    pairs = torch.eye(2)
    loss = info_nce(pairs, pairs, temperature=ONE, targets=torch.eye(2))
    assert float(loss) == pytest.approx(math.log(1 + math.exp(-1)), abs=1e-6)


def test_identity_targets_give_the_loss_of_clip() -> None:
    torch.manual_seed(0)
    images, texts = (functional.normalize(torch.randn(6, 8), dim=1) for _ in range(2))
    temperature = torch.tensor(0.07)
    logits, own = images @ texts.T / temperature, torch.arange(6)
    clip = (functional.cross_entropy(logits, own) + functional.cross_entropy(logits.T, own)) / 2
    ours = info_nce(images, texts, temperature=temperature, targets=torch.eye(6))
    torch.testing.assert_close(ours, clip)


def test_equal_embeddings_lose_log_n() -> None:
    same = functional.normalize(torch.ones(5, 3), dim=1)
    loss = info_nce(same, same, temperature=ONE, targets=torch.eye(5))
    assert float(loss) == pytest.approx(math.log(5), abs=1e-6)


def test_both_towers_get_a_gradient() -> None:
    images, texts = torch.eye(3).requires_grad_(), torch.eye(3).flip(0).requires_grad_()
    info_nce(images, texts, temperature=ONE, targets=torch.eye(3)).backward()
    assert images.grad is not None
    assert texts.grad is not None
    assert images.grad.abs().sum() > 0
    assert texts.grad.abs().sum() > 0


def test_jaccard_of_findings() -> None:
    labels = torch.tensor([[1.0, 1, 0], [1, 0, 0], [0, 0, 0], [0, 0, 2]])
    expected = torch.tensor([[1, 0.5, 0, 0], [0.5, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])
    torch.testing.assert_close(jaccard(labels), expected)


@settings(max_examples=50)
@given(
    seed=st.integers(0, 10_000),
    share=st.floats(0, 1),
    sharpness=st.floats(0.02, 2),
    size=st.integers(1, 12),
)
def test_soft_targets_are_distributions_that_prefer_the_own_report(
    seed: int, share: float, sharpness: float, size: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    texts = functional.normalize(torch.randn(size, 5, generator=generator), dim=1)
    labels = (torch.rand(size, 4, generator=generator) > 0.5).float()
    targets = soft_targets(texts, labels, label_share=share, sharpness=sharpness)
    torch.testing.assert_close(targets.sum(1), torch.ones(size))
    own = targets.diagonal()[:, None]
    assert (targets <= own + 1e-5).all()


def test_soft_targets_share_between_repeated_reports() -> None:
    texts = functional.normalize(torch.tensor([[1.0, 0], [1, 0], [0, 1]]), dim=1)
    labels = torch.tensor([[1.0, 0], [1, 0], [0, 1]])
    targets = soft_targets(texts, labels, label_share=0.5, sharpness=0.05)
    torch.testing.assert_close(targets[0], torch.tensor([0.5, 0.5, 0.0]), atol=1e-6, rtol=0)
