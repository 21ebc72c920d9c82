"""The training loss: contrast, agreement of findings, label heads, priming.

Expert pairs are appended to the batch. In the curriculum's cold start the heatmap processor is
primed: it learns to leave images unchanged under a heatmap of ones. Label heads make the image
features tell findings apart. Heads and processor are not part of the saved model.

Source: Kumar & Marttinen, arXiv 2403.10153 (priming weight 0.1; 0.3 in the authors' code); Radford
et al., arXiv 2103.00020. Soft targets, because a third of Open-I's report texts repeat, so that
other reports of a batch are often not wrong.
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
from encoders.training.heatmap_processor import HeatmapProcessor
from encoders.training.labelled import LabelledBatch, labelled_losses

_IMAGE_LABEL_WEIGHT = 5.0


class Objective(nn.Module):
    """The losses of a step.

    Args:
        model: the model to train.
        settings: of the run.
        label_counts: float32 [L], training studies with each label; rare ones weigh more in the
            similarity of labels.
        image_label_count: number of labels of the labelled images.
    """

    label_weights: Tensor

    def __init__(
        self,
        model: EclipModel,
        settings: TrainSettings,
        *,
        label_counts: Tensor,
        image_label_count: int = 0,
    ) -> None:
        super().__init__()
        expert, width = settings.expert, model.image_projection.in_features
        processor = HeatmapProcessor(**expert.processor.model_dump()) if expert else None
        self.model = model
        self.image_labels = nn.Linear(width, max(len(label_counts), 1))  # the pairs' labels
        self.agreement = AgreementLoss()
        self.processor = processor
        self.image_head = nn.Linear(width, image_label_count) if settings.labelled else None
        self.register_buffer("label_weights", 1 / torch.log(2 + label_counts))
        self._targets = settings.targets
        self._weights = {
            "contrast": 1.0,
            "agreement": settings.optim.agreement_weight,
            "labels": settings.optim.label_weight,
            "image labels": _IMAGE_LABEL_WEIGHT,
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
        """The total ``loss`` and its parts by name; arguments as in `StepBatch`."""
        losses: dict[str, Tensor] = {}
        if labelled is None:
            features = self.model.image_features(main.pixels)
        else:
            features, losses = self._features_with_labelled(main, labelled)
        parts = [main]
        if expert is not None:
            parts.append(self._mix(expert))
            # Mixed images must not enter the statistics used at inference.
            with _frozen_running_stats(self.model.image_tower):
                expert_features = self.model.image_features(parts[1].pixels)
            features = torch.cat([features, expert_features])
        losses |= self._pair_losses(features, parts)
        losses["loss"] = sum(
            (weight * losses[name] for name, weight in self._weights.items() if name in losses),
            start=features.new_zeros(()),
        )
        if priming and self.processor is not None:
            losses["priming"] = priming_loss(self.processor, main.pixels)
            losses["loss"] = (1 - priming) * losses["loss"] + priming * losses["priming"]
        return losses

    def _mix(self, expert: ExpertPairs) -> Pairs:
        """Mix images with their expert images; texts are not mixed."""
        if self.processor is None:
            raise ValueError("expert pairs need [expert] in the settings")
        images, weight = expert.pairs.pixels, expert.image_weight
        expert_images = self.processor(images, expert.heatmaps).to(images.dtype)
        return expert.pairs._replace(pixels=weight * images + (1 - weight) * expert_images)

    def _features_with_labelled(
        self, main: Pairs, labelled: LabelledBatch
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Features of the main images and losses of the labelled ones, from one pass."""
        if self.image_head is None:
            raise ValueError("labelled images need [labelled] in the settings")
        count = len(main.pixels)
        pixels = torch.cat([main.pixels, labelled.pixels])
        features, maps = self.model.features_and_maps(
            pixels.contiguous(memory_format=torch.channels_last), mapped=slice(count, None)
        )
        with torch.autocast(pixels.device.type, enabled=False):
            logits = self.image_head(features[count:])
        label_loss, map_loss = labelled_losses(logits, maps, labelled)
        return features[:count], {"image labels": label_loss, "maps": map_loss}

    def _pair_losses(self, image_features: Tensor, parts: Sequence[Pairs]) -> dict[str, Tensor]:
        """Losses over the pairs of all ranks, as in one process.

        Each rank runs the towers on its own rows and repeats the rest, which is small, for all.
        """
        model = self.model
        prepared = {
            name: torch.cat([part.prepared[name] for part in parts]) for name in parts[0].prepared
        }
        text_features = model.text_features(prepared)
        features = gather(image_features)
        texts, labels, complete = (
            gather(torch.cat([getattr(part, name) for part in parts]))
            for name in ("texts", "labels", "complete")
        )
        with torch.autocast(features.device.type, enabled=False):
            images = model.project_image(features)
            reports = model.project_text(gather(text_features))
            losses = {
                "contrast": info_nce(
                    images,
                    reports,
                    temperature=model.temperature,
                    targets=self._contrast_targets(texts, labels),
                ),
                "agreement": self.agreement(images, reports, overlap=jaccard(labels)),
            }
            if labels.shape[1] and complete.any():
                losses["labels"] = functional.binary_cross_entropy_with_logits(
                    self.image_labels(features[complete]), labels[complete]
                )
        return losses

    def _contrast_targets(self, texts: Tensor, labels: Tensor) -> Tensor:
        settings = self._targets
        if settings.kind == "own":
            return torch.eye(len(texts), device=texts.device)
        if settings.kind == "equal":
            return equal_targets(texts)
        return soft_targets(texts, labels * self.label_weights, label_share=settings.label_share)


def info_nce(images: Tensor, texts: Tensor, *, temperature: Tensor, targets: Tensor) -> Tensor:
    """Cross entropy of similarities against targets, mean of both directions.

    Args:
        images: float32 [N, D], rows of norm 1.
        texts: likewise; text i belongs to image i.
        temperature: divisor of the similarities.
        targets: float32 [N, N], rows sum to 1; from a symmetric similarity, so that row i serves
            image i among the texts and text i among the images. The identity gives CLIP.
    """
    logits = images @ texts.T / temperature
    to_texts = -(targets * logits.log_softmax(dim=1)).sum(1).mean()
    to_images = -(targets * logits.T.log_softmax(dim=1)).sum(1).mean()
    return (to_texts + to_images) / 2


class AgreementLoss(nn.Module):
    """Regression of how far an image and each report of the batch agree on findings.

    InfoNCE ranks reports by how much more likely they are for this image than for any image: a
    faint hint of a rare finding beats the normal report that is by far the most likely. This loss
    asks for the expected agreement itself, which is what retrieval is used for. Scale and offset
    are learned, as in SigLIP (Zhai et al., arXiv 2303.15343).
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
    """Targets by the similarity of reports: [N, N], rows sum to 1.

    Args:
        texts: float32 [N, any], fixed text vectors of norm 1 (not the ones in training).
        labels: float32 [N, L], 0 or the label's weight.
        label_share: weight of the labels' similarity against the texts', in [0, 1].
        sharpness: divisor before the softmax; small values approach the identity.
    """
    similarity = (1 - label_share) * (texts @ texts.T) + label_share * jaccard(labels)
    return (similarity / sharpness).softmax(dim=1)


def equal_targets(texts: Tensor) -> Tensor:
    """Targets that share equally among reports of equal text vectors: [N, N], rows sum to 1."""
    same = (texts @ texts.T > 1 - 1e-5).float()  # equal up to the rounding of their product
    same.fill_diagonal_(1)
    return same / same.sum(1, keepdim=True)


def jaccard(labels: Tensor) -> Tensor:
    """Weighted intersection over union of every pair of rows, [N, L] to [N, N]; 1 if both empty."""
    rows, columns = labels.unsqueeze(1), labels.unsqueeze(0)
    union = torch.maximum(rows, columns).sum(-1)
    shared = torch.minimum(rows, columns).sum(-1)
    return torch.where(union > 0, shared / union.clamp(min=1e-9), torch.ones_like(union))


def priming_loss(processor: nn.Module, images: Tensor) -> Tensor:
    """Mean squared error between images [N, channels, H, W] and the processor's output."""
    return functional.mse_loss(processor(images, None).float(), images.float())


def gather(rows: Tensor) -> Tensor:
    """Concatenate the rows [N, ...] of all ranks: [ranks * N, ...], with gradient.

    The gradient flows back to the rank a row came from, summed over all ranks; data parallel
    training then averages it, which gives the gradient of one process. N is the same on all ranks.
    """
    if not (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
        return rows
    from torch.distributed.nn.functional import all_gather  # noqa: PLC0415 - slow to import

    return torch.cat(all_gather(rows.contiguous()))  # type: ignore[no-untyped-call]


@contextmanager
def _frozen_running_stats(module: nn.Module) -> Iterator[None]:
    """Keep the running statistics of batch norms unchanged during training passes."""
    norms = [layer for layer in module.modules() if isinstance(layer, _BatchNorm)]
    momenta = [layer.momentum for layer in norms]
    for layer in norms:
        layer.momentum = 0.0
    try:
        yield
    finally:
        for layer, momentum in zip(norms, momenta, strict=True):
            layer.momentum = momentum
