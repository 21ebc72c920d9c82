"""What is minimised: contrast, agreement of findings, and a label head for training only.

Owns the sum and its parts, the expert pairs that are appended to the batch, and priming: in the
curriculum's cold start the processor learns to leave an image alone, under a heatmap of ones. The
label head makes the features of the image tower tell findings apart; neither it nor the heatmap
processor is saved with the model.

Source: Kumar & Marttinen, arXiv 2403.10153 (priming weight 0.1; 0.3 in the authors' code).
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from encoders.eclip.distributed import gather
from encoders.eclip.loss import AgreementLoss, equal_targets, info_nce, jaccard, soft_targets
from encoders.eclip.model import EclipModel
from encoders.grad_cache import in_chunks, statistics_stay
from encoders.towers.base import Prepared
from encoders.training.config import LabelledSettings, OptimSettings, TargetSettings
from encoders.training.labelled import LabelledBatch, labelled_losses
from encoders.training.mixup import mix, other_images


class Pairs(NamedTuple):
    """Images and their reports, row by row.

    Attributes:
        pixels: normalised images float32 [N, channels, H, W].
        prepared: the reports as the text tower reads them.
        texts: float32 [N, any], fixed text vectors for the soft targets.
        labels: float32 [N, L], 0 or 1.
        complete: bool [N], whether a label that is 0 is known not to be there; None for all.
    """

    pixels: Tensor
    prepared: Prepared
    texts: Tensor
    labels: Tensor
    complete: Tensor | None = None

    @property
    def label_rows(self) -> Tensor:
        """Bool [N]: the rows whose labels can be learned from."""
        if self.complete is not None:
            return self.complete
        return torch.ones(len(self.labels), dtype=torch.bool, device=self.labels.device)


class ExpertPairs(NamedTuple):
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


class Objective(nn.Module):
    """Losses of a batch of pairs.

    Args:
        model: whose towers and projections are trained.
        label_weights: float32 [L], weight of each finding in the label similarity.
        targets, optim, labelled: settings; no ``labelled`` if no step has labelled images.
        processor: (image, heatmap) to image; None if no step has expert pairs with heatmaps.
        image_labels: how many labels the labelled images have.
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
        labelled: LabelledSettings | None = None,
        image_labels: int = 0,
    ) -> None:
        super().__init__()
        self.model = model
        outputs = max(len(label_weights), 1)  # unused where there is no label
        self.image_labels = nn.Linear(model.image_projection.in_features, outputs)
        self.agreement = AgreementLoss()
        self.processor = processor
        width = model.image_projection.in_features
        self.image_head = nn.Linear(width, image_labels) if labelled else None
        self._labelled = labelled
        self.register_buffer("label_weights", label_weights)
        self._targets = targets
        self._optim = optim

    def forward(
        self,
        main: Pairs,
        *,
        expert: ExpertPairs | None = None,
        labelled: LabelledBatch | None = None,
        priming: float = 0.0,
    ) -> dict[str, Tensor]:
        """Scalars ``loss``, ``contrast``, ``agreement``, ``labels``, and what else is weighted.

        Args:
            main: the batch.
            expert: after mixing, further pairs of the one InfoNCE.
            labelled: images that teach labels and finding maps.
            priming: weight of the priming loss on the main images.
        """
        losses: dict[str, Tensor] = {}
        if labelled is None:
            features = self._features(main.pixels)
        else:
            features, losses = self._taught(main, labelled)
        parts = [main]
        if expert is not None:
            parts.append(self.mixed(expert))
            # What the processor makes of images must not enter the statistics of inference.
            with statistics_stay(self.model.image_tower):
                features = torch.cat([features, self._features(parts[1].pixels)])
        losses |= self._contrast(features, parts)
        losses["loss"] = sum(
            (weight * losses[name] for name, weight in self._weights().items() if name in losses),
            start=features.new_zeros(()),
        )
        if priming and self.processor is not None:
            losses["priming"] = priming_loss(self.processor, main.pixels)
            losses["loss"] = (1 - priming) * losses["loss"] + priming * losses["priming"]
        return losses

    def _features(self, pixels: Tensor) -> Tensor:
        model = self.model
        at_once = self._optim.micro_batch
        return in_chunks(model.image_tower, model.image_features, pixels, at_once=at_once)

    def _weights(self) -> dict[str, float]:
        optim, labelled = self._optim, self._labelled
        return {
            "contrast": optim.contrast_weight,
            "agreement": optim.agreement_weight,
            "labels": optim.label_weight,
            "image labels": labelled.label_weight if labelled else 0.0,
            "maps": labelled.map_weight if labelled else 0.0,
        }

    def mixed(self, expert: ExpertPairs) -> Pairs:
        """The expert pairs as the image tower sees them; the texts are not mixed."""
        pairs = expert.pairs
        if expert.heatmaps is None:
            others = other_images(pairs.pixels)
        elif self.processor is None:
            raise ValueError("expert pairs have heatmaps, but there is no processor for them")
        else:
            others = self.processor(pairs.pixels, expert.heatmaps).to(pairs.pixels.dtype)
        return pairs._replace(pixels=mix(pairs.pixels, others, expert.share))

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
        words = in_chunks(
            model.text_tower, model.text_features, prepared, at_once=self._optim.micro_batch
        )
        features = gather(image_features)
        texts, labels, complete = (
            gather(torch.cat([getattr(part, name) for part in parts]))
            for name in ("texts", "labels", "label_rows")
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
        return soft_targets(
            texts,
            labels * self.label_weights,
            label_share=chosen.label_share,
            sharpness=chosen.sharpness,
        )


def priming_loss(processor: nn.Module, images: Tensor) -> Tensor:
    """Mean squared error between normalised images [N, channels, H, W] and what becomes of them."""
    return functional.mse_loss(processor(images, None).float(), images.float())
