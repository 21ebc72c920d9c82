"""Which model of a run is kept: the one at the end, or the one that retrieves best.

Owns the pass over the validation studies and the best model so far on disk. Both ways count alike:
the mean of R@10 image to report and report to image.
"""

import copy
from pathlib import Path

import torch

from encoders.eclip.model import EclipModel
from encoders.preprocess import EvalTransform
from encoders.training.batches import TrainingSet, prepare_cached
from encoders.training.checkpoint import load_checkpoint, save_checkpoint
from encoders.training.config import TrainSettings
from encoders.training.dataset import Study, TrainingDataError
from encoders.training.image_cache import load_images
from encoders.training.update_bn import update_bn
from experiments.ablation_measures import retrieval
from experiments.ablation_scores import embed_images

FILE = "best.pt"
WAYS = ("R@10 image to text", "R@10 text to image")


def as_kept(
    model: EclipModel, data: TrainingSet, *, settings: TrainSettings, transform: EvalTransform
) -> EclipModel:
    """A copy of a model in training as it would be saved now, in evaluation mode."""
    kept = copy.deepcopy(model).eval()
    if settings.update_bn:
        update_bn(kept, data, transform=transform)
    return kept


class Validation:
    """The first frontal image of every validation study, and its report.

    Args:
        studies: of validation.
        settings: of the run.
        model: any of the run: how texts are prepared does not change in training.
        cache: decoded images.

    Raises:
        TrainingDataError: no study has a frontal image.
    """

    def __init__(
        self, studies: tuple[Study, ...], *, settings: TrainSettings, model: EclipModel, cache: Path
    ) -> None:
        asked = [study for study in studies if study.frontals]
        if not asked:
            raise TrainingDataError(
                f"validate_every is {settings.validate_every}, but none of the {len(studies)} "
                "validation studies has a frontal image; set it to 0, or bring such studies"
            )
        self._texts = [study.text for study in asked]
        self._images = load_images(
            [study.frontals[0] for study in asked], side=settings.cache_side, cache=cache
        )
        self._prepared = prepare_cached(self._texts, model=model, cache=cache)

    @torch.no_grad()
    def score(self, model: EclipModel, transform: EvalTransform) -> dict[str, float]:
        """R@10 both ways of a model in evaluation mode."""
        device = model.log_temperature.device
        images = embed_images(model, transform, self._images)
        prepared = {name: value.to(device) for name, value in self._prepared.items()}
        found = retrieval(images, model.encode_text(prepared).cpu().numpy(), self._texts)
        return {way: found[way] for way in WAYS}


def keep_if_best(folder: Path, model: EclipModel, *, score: float, fingerprint: str) -> None:
    """Write the model beside the checkpoint if none of this run was better.

    A run that was cut comes by the same models again, so that nothing has to be forgotten.
    """
    best = load_checkpoint(folder, fingerprint=fingerprint, name=FILE)
    if best is None or score > best["score"]:
        state = {"fingerprint": fingerprint, "score": score, "model": model.state_dict()}
        save_checkpoint(folder, state, name=FILE)


def load_best(folder: Path, model: EclipModel, *, fingerprint: str) -> None:
    """Fill a model with the best weights of its run, in place."""
    best = load_checkpoint(folder, fingerprint=fingerprint, name=FILE)
    if best is None:
        raise TrainingDataError(
            f"{folder / FILE} is missing: the run was validated, but its best model is gone; "
            "train again, or set keep to last"
        )
    model.load_state_dict(best["model"])
