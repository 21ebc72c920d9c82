"""What is minimised: contrast, agreement of findings, and a label head for training only.

Expert pairs are appended to the batch. In the curriculum's cold start the heatmap processor is
primed: it learns to leave an image alone, under a heatmap of ones. The label head makes the
features of the image tower tell findings apart. Neither head nor processor is saved with the model.

Source: Kumar & Marttinen, arXiv 2403.10153 (priming weight 0.1; 0.3 in the authors' code); Radford
et al., arXiv 2103.00020. The soft targets answer that a third of Open-I's report texts repeat, so
that "the other reports of the batch" are often not wrong ones.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

from encoders.eclip.model import EclipModel
from encoders.training.config import TrainSettings
from encoders.training.dataloader import ExpertPairs, Pairs
from encoders.training.expert import HeatmapProcessor
from encoders.training.labelled import LabelledBatch, labelled_losses

_IMAGE_LABELS = 5.0
"""Weight of the labels of labelled images."""


class Objective(nn.Module):
    """Losses of a batch of pairs.

    Args:
        model: whose towers and projections are trained.
        settings: of the run.
        label_counts: float32 [L], training studies with each finding: rare ones weigh more in the
            similarity of labels.
        image_labels: how many labels the labelled images have.
    """

    label_weights: Tensor

    def __init__(
        self,
        model: EclipModel,
        settings: TrainSettings,
        *,
        label_counts: Tensor,
        image_labels: int = 0,
    ) -> None:
        super().__init__()
        expert, width = settings.expert, model.image_projection.in_features
        processor = HeatmapProcessor(**expert.processor.model_dump()) if expert else None
        self.model = model
        self.image_labels = nn.Linear(width, max(len(label_counts), 1))  # 1 is unused
        self.agreement = AgreementLoss()
        self.processor = processor
        self.image_head = nn.Linear(width, image_labels) if settings.labelled else None
        self.register_buffer("label_weights", 1 / torch.log(2 + label_counts))
        self._targets = settings.targets
        self._weights = {
            "contrast": 1.0,
            "agreement": settings.optim.agreement_weight,
            "labels": settings.optim.label_weight,
            "image labels": _IMAGE_LABELS,
            "maps": 1.0,
        }

    def forward(
        self,
        main: Pairs,
        *,
        expert: ExpertPairs | None = None,
        labelled: LabelledBatch | None = None,
        priming: float = 0.0,
    ) -> dict[str, Tensor]:
        """Scalars ``loss``, ``contrast``, ``agreement``, ``labels``, and what else is weighted.

        Args and weight of ``priming`` are as in `encoders.training.dataloader.StepBatch`.
        """
        losses: dict[str, Tensor] = {}
        if labelled is None:
            features = self.model.image_features(main.pixels)
        else:
            features, losses = self._taught(main, labelled)
        parts = [main]
        if expert is not None:
            parts.append(self._mixed(expert))
            # What the processor makes of images must not enter the statistics of inference.
            with _statistics_stay(self.model.image_tower):
                expert_features = self.model.image_features(parts[1].pixels)
            features = torch.cat([features, expert_features])
        losses |= self._contrast(features, parts)
        losses["loss"] = sum(
            (weight * losses[name] for name, weight in self._weights.items() if name in losses),
            start=features.new_zeros(()),
        )
        if priming and self.processor is not None:
            losses["priming"] = priming_loss(self.processor, main.pixels)
            losses["loss"] = (1 - priming) * losses["loss"] + priming * losses["priming"]
        return losses

    def _mixed(self, expert: ExpertPairs) -> Pairs:
        """The expert pairs as the image tower sees them; the texts are not mixed."""
        if self.processor is None:
            raise ValueError("there are expert pairs, but no processor for their heatmaps")
        images, share = expert.pairs.pixels, expert.share
        seen = self.processor(images, expert.heatmaps).to(images.dtype)
        return expert.pairs._replace(pixels=share * images + (1 - share) * seen)

    def _taught(self, main: Pairs, labelled: LabelledBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """Features of the main images, and what the labelled ones teach: one pass for both."""
        if self.image_head is None:
            raise ValueError("there are labelled images, but no head for their labels")
        count = len(main.pixels)
        pixels = torch.cat([main.pixels, labelled.pixels])
        features, maps = self.model.features_and_maps(
            pixels.contiguous(memory_format=torch.channels_last), mapped=slice(count, None)
        )
        with torch.autocast(pixels.device.type, enabled=False):
            log_odds = self.image_head(features[count:])
        of_labels, of_maps = labelled_losses(log_odds, maps, labelled)
        return features[:count], {"image labels": of_labels, "maps": of_maps}

    def _contrast(self, image_features: Tensor, parts: Sequence[Pairs]) -> dict[str, Tensor]:
        """Losses over the pairs of all ranks, as of one process.

        The towers work on their own rows; what follows is small and every rank does all of it.
        """
        model = self.model
        prepared = {
            name: torch.cat([part.prepared[name] for part in parts]) for name in parts[0].prepared
        }
        words = model.text_features(prepared)
        features = gather(image_features)
        texts, labels, complete = (
            gather(torch.cat([getattr(part, name) for part in parts]))
            for name in ("texts", "labels", "complete")
        )
        with torch.autocast(features.device.type, enabled=False):
            images = model.project_image(features)
            reports = model.project_text(gather(words))
            losses = {
                "contrast": info_nce(
                    images,
                    reports,
                    temperature=model.temperature,
                    targets=self._target_rows(texts, labels),
                ),
                "agreement": self.agreement(images, reports, overlap=jaccard(labels)),
            }
            if labels.shape[1] and complete.any():
                losses["labels"] = functional.binary_cross_entropy_with_logits(
                    self.image_labels(features[complete]), labels[complete]
                )
        return losses

    def _target_rows(self, texts: Tensor, labels: Tensor) -> Tensor:
        chosen = self._targets
        if chosen.kind == "own":
            return torch.eye(len(texts), device=texts.device)
        if chosen.kind == "equal":
            return equal_targets(texts)
        return soft_targets(texts, labels * self.label_weights, label_share=chosen.label_share)


def info_nce(images: Tensor, texts: Tensor, *, temperature: Tensor, targets: Tensor) -> Tensor:
    """Cross entropy of similarities against targets, mean of both directions.

    Args:
        images: float32 [N, D], rows of norm 1.
        texts: likewise; text i belongs to image i.
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
    """The own report and every one of equal vector, all alike: [N, N], rows sum to 1."""
    same = (texts @ texts.T > 1 - 1e-5).float()  # equal up to the rounding of their product
    same.fill_diagonal_(1)
    return same / same.sum(1, keepdim=True)


def jaccard(labels: Tensor) -> Tensor:
    """Weighted intersection over union of every pair of rows: [N, L] -> [N, N]; empty is empty."""
    rows, columns = labels.unsqueeze(1), labels.unsqueeze(0)
    union = torch.maximum(rows, columns).sum(-1)
    shared = torch.minimum(rows, columns).sum(-1)
    return torch.where(union > 0, shared / union.clamp(min=1e-9), torch.ones_like(union))


def priming_loss(processor: nn.Module, images: Tensor) -> Tensor:
    """Mean squared error between normalised images [N, channels, H, W] and what becomes of them."""
    return functional.mse_loss(processor(images, None).float(), images.float())


def gather(rows: Tensor) -> Tensor:
    """Rows [N, ...] of every rank, one after the other: [ranks * N, ...], with gradient.

    It flows back to the rank that a row came from, summed over all ranks; averaging over the ranks,
    as data parallel training does, then gives the gradient of one process. Every rank brings as
    many rows. One process gets its own rows back.
    """
    if not (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
        return rows
    from torch.distributed.nn.functional import all_gather  # noqa: PLC0415 - slow to import

    return torch.cat(all_gather(rows.contiguous()))  # type: ignore[no-untyped-call]


@contextmanager
def _statistics_stay(module: nn.Module) -> Iterator[None]:
    """Within this, training passes leave a module's running statistics alone."""
    norms = [layer for layer in module.modules() if isinstance(layer, _BatchNorm)]
    usual = [layer.momentum for layer in norms]
    for layer in norms:
        layer.momentum = 0.0
    try:
        yield
    finally:
        for layer, momentum in zip(norms, usual, strict=True):
            layer.momentum = momentum
