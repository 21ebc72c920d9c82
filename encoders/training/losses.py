"""The losses over a batch: InfoNCE with soft targets, agreement of findings, labels and their maps.

An expert step adds its pairs to the batch before it comes here; the loss is the same.

Source: Radford et al., arXiv 2103.00020; the soft targets answer that a third of Open-I's report
texts repeat, so that "the other reports of the batch" are often not wrong ones.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from encoders.training.labelled import LabelledBatch

_ABSENT_WEIGHT = 0.3
"""Of a map of a finding that is not there, against one that is: they are many."""


def info_nce(images: Tensor, texts: Tensor, *, temperature: Tensor, targets: Tensor) -> Tensor:
    """Cross entropy of similarities against targets, mean of both directions.

    Args:
        images: float32 [N, D], rows of norm 1.
        texts: float32 [N, D], rows of norm 1; row i belongs to image i.
        temperature: divisor of the similarities.
        targets: float32 [N, N], rows sum to 1, made from a symmetric similarity: row i is what
            image i should find among the texts, and text i among the images. The identity gives
            CLIP.
    """
    logits = images @ texts.T / temperature
    to_texts = -(targets * logits.log_softmax(dim=1)).sum(1).mean()
    to_images = -(targets * logits.T.log_softmax(dim=1)).sum(1).mean()
    return (to_texts + to_images) / 2


class AgreementLoss(nn.Module):
    """How far an image and any report of the batch agree on findings, as a regression.

    InfoNCE ranks reports by how much more likely they are for this image than for any image: a
    slight hint of something rare beats the plain normal report that is by far the likeliest. This
    loss asks for the expected agreement itself, which is what a retrieved report is used for.
    Scale and offset are learned, as in SigLIP (Zhai et al., arXiv 2303.15343).
    """

    def __init__(self) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.tensor(10.0).log())
        self.offset = nn.Parameter(torch.tensor(-2.0))

    def forward(self, images: Tensor, texts: Tensor, *, overlap: Tensor) -> Tensor:
        """Binary cross entropy of scaled similarities against overlaps in [0, 1], both [N, N]."""
        logits = self.log_scale.exp() * images @ texts.T + self.offset
        return functional.binary_cross_entropy_with_logits(logits, overlap)


def soft_targets(
    texts: Tensor, labels: Tensor, *, label_share: float, sharpness: float = 0.1
) -> Tensor:
    """Which other reports of a batch are nearly right for an image: [N, N], rows sum to 1.

    Args:
        texts: float32 [N, any], fixed text vectors of norm 1 (not the ones in training).
        labels: float32 [N, L], finding labels, 0 or a weight: rare findings weigh more.
        label_share: weight of the labels' similarity against the texts', in [0, 1].
        sharpness: divisor before the softmax; small values approach the identity.
    """
    similarity = (1 - label_share) * (texts @ texts.T) + label_share * jaccard(labels)
    return (similarity / sharpness).softmax(dim=1)


def equal_targets(texts: Tensor) -> Tensor:
    """The own report and every equal one, all alike: [N, N], rows sum to 1.

    Args:
        texts: float32 [N, any], fixed text vectors of norm 1; equal reports have equal ones, up
            to the rounding of their product.
    """
    same = (texts @ texts.T > 1 - 1e-5).float()
    same.fill_diagonal_(1)
    return same / same.sum(1, keepdim=True)


def jaccard(labels: Tensor) -> Tensor:
    """Weighted intersection over union of every pair of rows: [N, L] -> [N, N]; empty is empty."""
    rows, columns = labels.unsqueeze(1), labels.unsqueeze(0)
    union = torch.maximum(rows, columns).sum(-1)
    shared = torch.minimum(rows, columns).sum(-1)
    return torch.where(union > 0, shared / union.clamp(min=1e-9), torch.ones_like(union))


def labelled_losses(log_odds: Tensor, maps: Tensor, batch: LabelledBatch) -> tuple[Tensor, Tensor]:
    """Losses of the labels and of the finding maps, in float32.

    Args:
        log_odds: of the labels, [N, L].
        maps: log-odds [N, K, h, w].
        batch: what is known of the images.
    """
    with torch.autocast(maps.device.type, enabled=False):
        covered, peak = map_losses(maps, batch.cover, batch.known)
        return label_loss(log_odds, batch.labels), 3 * covered + 0.3 * peak


def label_loss(log_odds: Tensor, labels: Tensor) -> Tensor:
    """Mean binary cross entropy over the labels that are known; both [N, L]."""
    known = ~labels.isnan()
    losses = functional.binary_cross_entropy_with_logits(
        log_odds, labels.nan_to_num(), reduction="none"
    )
    return (losses * known).sum() / known.sum().clamp(min=1)


def map_losses(maps: Tensor, cover: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
    """Whether each place is covered, and whether the peak is: two means over known maps.

    Args:
        maps: log-odds [N, K, h, w].
        cover: [N, K, h, w] in [0, 1].
        known: [N, K], 0 or 1.
    """
    there = cover.flatten(2).amax(-1) > 0.25
    places = functional.binary_cross_entropy_with_logits(maps, cover, reduction="none")
    weight = known * torch.where(there, 1.0, _ABSENT_WEIGHT)
    covered = (places.flatten(2).mean(-1) * weight).sum() / weight.sum().clamp(min=1)
    if not there.any():
        return covered, maps.sum() * 0
    share = maps.flatten(2)[there].log_softmax(-1)
    inside = cover.flatten(2)[there].clamp(min=1e-4, max=1).log()
    return covered, -(share + inside).logsumexp(-1).mean()
