"""What is minimised: the contrastive loss and two label heads that exist in training only.

Owns the sum and its parts. The heads make the features, and the space both sides share, speak of
findings; they are not saved with the model.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from encoders.eclip.loss import info_nce, soft_targets
from encoders.eclip.model import EclipModel
from encoders.towers import Prepared
from encoders.training.config import OptimSettings, TargetSettings

EMBEDDING_GAIN = 8.0
"""A row of norm 1 has entries of about 1/16: scaled so that the head need not have huge weights."""


class Objective(nn.Module):
    """Losses of a batch of pairs.

    An expert step (heatmap processor, mixup; eCLIP) only makes the batch longer before it comes
    here: mixed films with their own reports are pairs like all others.

    Args:
        model: whose towers and projections are trained.
        label_weights: float32 [L], weight of each finding in the label similarity.
        targets: how soft the contrastive targets are.
        optim: the weights of the parts.
    """

    label_weights: Tensor

    def __init__(
        self,
        model: EclipModel,
        *,
        label_weights: Tensor,
        targets: TargetSettings,
        optim: OptimSettings,
    ) -> None:
        super().__init__()
        self.model = model
        self.image_labels = nn.Linear(model.image_projection.in_features, len(label_weights))
        self.shared_labels = nn.Linear(model.config.dim, len(label_weights))
        self.register_buffer("label_weights", label_weights)
        self._targets = targets
        self._optim = optim

    def forward(
        self, pixels: Tensor, prepared: Prepared, texts: Tensor, labels: Tensor
    ) -> dict[str, Tensor]:
        """Scalars ``loss``, ``contrast``, ``labels``, ``shared_labels``.

        Args:
            pixels: normalised films float32 [N, channels, H, W].
            prepared: the reports as the text tower reads them.
            texts: float32 [N, any], fixed text vectors for the soft targets.
            labels: float32 [N, L], 0 or 1.
        """
        features = self.model.image_features(pixels)
        with torch.autocast(pixels.device.type, enabled=False):
            images = self.model.project_image(features)
            reports = self.model.encode_text(prepared)
            targets = soft_targets(
                texts,
                labels * self.label_weights,
                label_share=self._targets.label_share,
                sharpness=self._targets.sharpness,
            )
            contrast = info_nce(
                images, reports, temperature=self.model.temperature, targets=targets
            )
            label_loss = _bce(self.image_labels(features), labels)
            shared = sum(
                _bce(self.shared_labels(side * EMBEDDING_GAIN), labels)
                for side in (images, reports)
            )
        weights = self._optim
        return {
            "loss": weights.contrast_weight * contrast
            + weights.label_weight * label_loss
            + weights.shared_label_weight * shared,
            "contrast": contrast,
            "labels": label_loss,
            "shared_labels": torch.as_tensor(shared),
        }


def _bce(logits: Tensor, labels: Tensor) -> Tensor:
    return functional.binary_cross_entropy_with_logits(logits, labels)
