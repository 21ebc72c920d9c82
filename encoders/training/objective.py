"""What is minimised: contrast, agreement of findings, and a label head for training only.

Owns the sum and its parts. The label head makes the features of the image tower speak of
findings; it is not saved with the model.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from encoders.eclip.loss import Agreement, info_nce, jaccard, soft_targets
from encoders.eclip.model import EclipModel
from encoders.towers import Prepared
from encoders.training.config import OptimSettings, TargetSettings


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
        self.agreement = Agreement()
        self.register_buffer("label_weights", label_weights)
        self._targets = targets
        self._optim = optim

    def forward(
        self, pixels: Tensor, prepared: Prepared, texts: Tensor, labels: Tensor
    ) -> dict[str, Tensor]:
        """Scalars ``loss``, ``contrast``, ``agreement``, ``labels``.

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
            agreement = self.agreement(images, reports, overlap=jaccard(labels))
            label_loss = functional.binary_cross_entropy_with_logits(
                self.image_labels(features), labels
            )
        weights = self._optim
        return {
            "loss": weights.contrast_weight * contrast
            + weights.agreement_weight * agreement
            + weights.label_weight * label_loss,
            "contrast": contrast,
            "agreement": agreement,
            "labels": label_loss,
        }
