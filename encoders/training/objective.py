"""What is minimised: contrast, agreement of findings, and a label head for training only.

Owns the sum and its parts, the expert pairs that are appended to the batch, and priming: in the
curriculum's cold start the processor learns to leave an image alone, under a heatmap of ones. The
label head makes the features of the image tower tell findings apart; neither it nor the heatmap
processor is saved with the model.

Source: Kumar & Marttinen, arXiv 2403.10153 (priming weight 0.1; 0.3 in the authors' code).
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from encoders.eclip.distributed import gather
from encoders.eclip.loss import Agreement, equal_targets, info_nce, jaccard, soft_targets
from encoders.eclip.model import EclipModel
from encoders.grad_cache import in_chunks
from encoders.towers.base import Prepared
from encoders.training.config import OptimSettings, TargetSettings
from encoders.training.mixup import mix, other_images


@dataclass(frozen=True, slots=True)
class Pairs:
    """Images and their reports, row by row.

    Attributes:
        pixels: normalised images float32 [N, channels, H, W].
        prepared: the reports as the text tower reads them.
        texts: float32 [N, any], fixed text vectors for the soft targets.
        labels: float32 [N, L], 0 or 1.
    """

    pixels: Tensor
    prepared: Prepared
    texts: Tensor
    labels: Tensor

    def to(self, device: torch.device) -> "Pairs":
        """The same on a device."""
        prepared = {name: value.to(device) for name, value in self.prepared.items()}
        return Pairs(
            self.pixels.to(device), prepared, self.texts.to(device), self.labels.to(device)
        )

    def followed_by(self, other: "Pairs") -> "Pairs":
        """Both batches, one after the other."""
        return Pairs(
            torch.cat([self.pixels, other.pixels]),
            {
                name: torch.cat([value, other.prepared[name]])
                for name, value in self.prepared.items()
            },
            torch.cat([self.texts, other.texts]),
            torch.cat([self.labels, other.labels]),
        )


@dataclass(frozen=True, slots=True)
class ExpertPairs:
    """Annotated images, and how much of each is kept in the mixture.

    Attributes:
        pairs: the images, not yet mixed, and their reports.
        heatmaps: float32 [E, H, W] in [0, 1], cropped like the images; None mixes with another
            image of these (DACL).
        share: of the image in the mixture; the rest is the expert image.
    """

    pairs: Pairs
    heatmaps: Tensor | None
    share: float

    def to(self, device: torch.device) -> "ExpertPairs":
        """The same on a device."""
        heat = None if self.heatmaps is None else self.heatmaps.to(device)
        return ExpertPairs(self.pairs.to(device), heat, self.share)


class Objective(nn.Module):
    """Losses of a batch of pairs.

    Args:
        model: whose towers and projections are trained.
        label_weights: float32 [L], weight of each finding in the label similarity.
        targets: what an image should find among the reports.
        optim: the weights of the parts.
        processor: (image, heatmap) to image; None if no step has expert pairs with heatmaps.
    """

    label_weights: Tensor

    def __init__(
        self,
        model: EclipModel,
        *,
        label_weights: Tensor,
        targets: TargetSettings,
        optim: OptimSettings,
        processor: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        outputs = max(len(label_weights), 1)  # unused where there is no label
        self.image_labels = nn.Linear(model.image_projection.in_features, outputs)
        self.agreement = Agreement()
        self.processor = processor
        self.register_buffer("label_weights", label_weights)
        self._targets = targets
        self._optim = optim

    def forward(
        self, main: Pairs, *, expert: ExpertPairs | None = None, priming: float = 0.0
    ) -> dict[str, Tensor]:
        """Scalars ``loss``, ``contrast``, ``agreement``, ``labels``, and ``priming`` if weighted.

        Args:
            main: the batch.
            expert: appended to it after mixing: one InfoNCE over all pairs.
            priming: weight of the priming loss on the main images.
        """
        whole = main if expert is None else main.followed_by(self.mixed(expert))
        losses = self._contrast(whole)
        if priming and self.processor is not None:
            losses["priming"] = priming_loss(self.processor, main.pixels)
            losses["loss"] = (1 - priming) * losses["loss"] + priming * losses["priming"]
        return losses

    def mixed(self, expert: ExpertPairs) -> Pairs:
        """The expert pairs as the image tower sees them; the texts are not mixed."""
        pairs = expert.pairs
        if expert.heatmaps is None:
            others = other_images(pairs.pixels)
        elif self.processor is None:
            raise ValueError("expert pairs have heatmaps, but there is no processor for them")
        else:
            others = self.processor(pairs.pixels, expert.heatmaps).to(pairs.pixels.dtype)
        pixels = mix(pairs.pixels, others, expert.share)
        return Pairs(pixels, pairs.prepared, pairs.texts, pairs.labels)

    def _contrast(self, pairs: Pairs) -> dict[str, Tensor]:
        """Losses over the pairs of all ranks, as of one process.

        The towers work on their own rows; what follows is small and every rank does all of it.
        """
        model, weights = self.model, self._optim
        at_once = weights.micro_batch
        image_features = in_chunks(
            model.image_tower, model.image_features, pairs.pixels, at_once=at_once
        )
        words = in_chunks(model.text_tower, model.text_features, pairs.prepared, at_once=at_once)
        features, labels = gather(image_features), gather(pairs.labels)
        with torch.autocast(pairs.pixels.device.type, enabled=False):
            images = model.project_image(features)
            reports = model.project_text(gather(words))
            contrast = info_nce(
                images,
                reports,
                temperature=model.temperature,
                targets=self._target_rows(gather(pairs.texts), labels),
            )
            agreement = self.agreement(images, reports, overlap=jaccard(labels))
            label_loss = features.new_zeros(())
            if labels.shape[1]:
                label_loss = functional.binary_cross_entropy_with_logits(
                    self.image_labels(features), labels
                )
        return {
            "loss": weights.contrast_weight * contrast
            + weights.agreement_weight * agreement
            + weights.label_weight * label_loss,
            "contrast": contrast,
            "agreement": agreement,
            "labels": label_loss,
        }

    def _target_rows(self, texts: Tensor, labels: Tensor) -> Tensor:
        chosen = self._targets
        if chosen.kind == "own":
            return torch.eye(len(texts), device=texts.device)
        if chosen.kind == "equal":
            return equal_targets(texts)
        return soft_targets(
            texts,
            labels * self.label_weights,
            label_share=chosen.label_share,
            sharpness=chosen.sharpness,
        )


def priming_loss(processor: nn.Module, images: Tensor) -> Tensor:
    """Mean squared error between normalised images [N, channels, H, W] and what becomes of them."""
    return functional.mse_loss(processor(images, None).float(), images.float())
