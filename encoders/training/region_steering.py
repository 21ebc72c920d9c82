"""Trains a heatmap processor in front of a frozen encoder, so that a reader's region steers.

Both towers stay as they are. The processor is primed to give the image back (Open-I images,
all-ones
heatmaps), then learns, from images on which radiologists boxed an opacity and from normal images
with
a borrowed box, to bring image and words together. Every stage is a file in ``--out`` and is not
done
again, so that a run that was cut goes on at its last stage.

Five processors of each kind leave a fifth of the patients out each: what is measured with them
(benchmarks/attention.py) is of images they never saw. One of each kind learns from all images.

    OMP_NUM_THREADS=1 python -m encoders.training.region_steering --out runs/steering
"""

import argparse
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from encoders.annotations import Boxes, render
from encoders.eclip.encoder import load_encoder
from encoders.eclip.heatmap import ATTENTION, IDENTITY_START, build_processor
from encoders.eclip.loss import equal_targets, info_nce
from encoders.eclip.model import EclipModel
from encoders.eclip.region_steering import load_processor, save_processor
from encoders.eclip.weights import SHIPPED, load_pretrained
from encoders.preprocess import EvalTransform
from encoders.training.augment import draw_warp, vary_exposure, warp
from encoders.training.config import AugmentSettings
from encoders.training.dataset import Split, read_openi
from encoders.training.image_cache import load_images
from encoders.training.mixup import draw_share, mix
from encoders.training.nih_boxes import read_boxed_images
from encoders.training.priming import priming_loss

_log = logging.getLogger(__name__)

KINDS = (ATTENTION, IDENTITY_START)
FOLDS = 5
SIDE = 256
PRIMING_IMAGES, PRIMING_STEPS, PRIMING_BATCH = 800, 240, 12
STEPS, BOXED, NORMAL = 100, 8, 4
RATE = 1e-3
GATE_RATE = 0.03
"""Of the gate of `identity_start`, one number that starts at 0 and has few steps to open."""
ALPHA = 0.3
NOTHING = "Normal. The lungs are clear."


@dataclass(frozen=True, slots=True)
class Cases:
    """Images with a region each.

    Attributes:
        ids, patients: of every image.
        images: uint8 [N, side, side].
        heatmaps: float32 [N, side, side]; a normal image borrows that of a boxed one.
        texts: float32 [N, dim], vectors of the words.
        normal: bool [N].
    """

    ids: list[str]
    patients: list[str]
    images: NDArray[np.uint8]
    heatmaps: NDArray[np.float32]
    texts: Tensor
    normal: NDArray[np.bool_]


def load_cases(folder: Path, *, model: EclipModel, cache: Path) -> Cases:
    """The boxed and the normal images of `encoders.training.nih_boxes`."""
    found = read_boxed_images(folder)
    boxed = [image.boxes for image in found if image.boxes]
    rng = np.random.default_rng(0)
    boxes = [image.boxes or boxed[rng.integers(len(boxed))] for image in found]
    words = [said(image.words, image.boxes) if image.boxes else NOTHING for image in found]
    with torch.no_grad():
        texts = model.encode_text(model.prepare_texts(words))
    return Cases(
        ids=[image.image_id for image in found],
        patients=[image.patient_id for image in found],
        images=load_images([image.path for image in found], side=SIDE, cache=cache),
        heatmaps=np.stack([render(Boxes(each), height=SIDE, width=SIDE) for each in boxes]),
        texts=texts,
        normal=np.array([not image.boxes for image in found]),
    )


def said(words: str, boxes: Sequence[tuple[float, ...]]) -> str:
    """An image's label words, and on which side of the patient its boxes lie."""
    middles = [x + width / 2 for x, _, width, _ in boxes]
    right, left = any(x < 0.5 for x in middles), any(x >= 0.5 for x in middles)
    side = "both lungs" if right and left else f"the {'right' if right else 'left'} lung"
    return f"{words} Opacity in {side}."


def folds_of(patients: Sequence[str], *, seed: int = 0) -> NDArray[np.intp]:
    """Which fold each image is in, int [N]; a patient is in one."""
    names, group = np.unique(list(patients), return_inverse=True)
    order = np.random.default_rng(seed).permutation(len(names))
    return np.asarray((order % FOLDS)[group])


def prime(
    settings: dict[str, Any], images: NDArray[np.uint8], transform: EvalTransform
) -> nn.Module:
    """A processor that gives an image back as well as it can."""
    torch.manual_seed(0)
    processor = build_processor(settings)
    optimiser = torch.optim.AdamW(processor.parameters(), lr=RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 2 * RATE, PRIMING_STEPS)
    rng = np.random.default_rng(0)
    for step in range(PRIMING_STEPS):
        rows = rng.choice(len(images), PRIMING_BATCH, replace=False)
        pixels = _seen(images[rows], AugmentSettings(), transform)[0]
        loss = priming_loss(processor, pixels)
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        optimiser.step()
        schedule.step()
        if step % 50 == 0 or step + 1 == PRIMING_STEPS:
            _log.info("priming %s, step %d: loss %.4f", settings["kind"], step, loss.item())
    return processor


def fit(
    processor: nn.Module,
    cases: Cases,
    rows: NDArray[np.intp],
    *,
    model: EclipModel,
    transform: EvalTransform,
) -> None:
    """Train on some of the cases; the model is frozen and in evaluation mode."""
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    gate = [value for name, value in processor.named_parameters() if name == "gate"]
    rest = [value for name, value in processor.named_parameters() if name != "gate"]
    groups = [{"params": rest, "lr": RATE}, {"params": gate, "lr": GATE_RATE}]
    optimiser = torch.optim.AdamW([each for each in groups if each["params"]], weight_decay=1e-3)
    rates = [group["lr"] for group in optimiser.param_groups]
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rates, STEPS)
    normal = cases.normal[rows]
    for step in range(STEPS):
        chosen = np.concatenate(
            [
                rng.choice(rows[~normal], BOXED, replace=False),
                rng.choice(rows[normal], NORMAL, replace=False),
            ]
        )
        pixels, heat = _seen(
            cases.images[chosen], AugmentSettings(), transform, cases.heatmaps[chosen]
        )
        with torch.autocast("cpu", torch.bfloat16):
            shown = mix(pixels, processor(pixels, heat), draw_share(ALPHA, step))
            features = model.image_features(shown.contiguous(memory_format=torch.channels_last))
        texts = cases.texts[torch.from_numpy(chosen)]
        loss = info_nce(
            model.project_image(features.float()),
            texts,
            temperature=model.temperature,
            targets=equal_targets(texts),
        )
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(processor.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        if step % 10 == 0 or step + 1 == STEPS:
            _log.info("step %d: loss %.4f", step, loss.item())


def _seen(
    images: NDArray[np.uint8],
    augment: AugmentSettings,
    transform: EvalTransform,
    heatmaps: NDArray[np.float32] | None = None,
) -> tuple[Tensor, Tensor]:
    """Augmented images as the tower reads them, and their heatmaps under the same crops."""
    grey = torch.from_numpy(images).float() / 255
    maps = draw_warp(len(grey), augment)
    varied = vary_exposure(transform.stretch(grey), augment)
    pixels = transform.normalise(warp(varied, maps, size=transform.size))
    heat = torch.ones_like(grey) if heatmaps is None else torch.from_numpy(heatmaps)
    return pixels, warp(heat, maps, size=transform.size).clamp(0, 1)


def main() -> None:
    """Every stage that is not there yet."""
    args = _arguments()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    model, transform = load_pretrained(SHIPPED)
    encoder_id = load_encoder().encoder_id
    cases = load_cases(args.data / "nih_boxes", model=model, cache=args.out)
    fold = folds_of(cases.patients)
    for kind in args.kinds:
        primed = args.out / f"{kind}-primed.safetensors"
        settings = {"kind": kind}
        facts: dict[str, Any] = {"processor": settings, "encoder_id": encoder_id}
        if kind == IDENTITY_START and not primed.exists():
            save_processor(primed, build_processor(settings), facts)  # the image itself already
        if not primed.exists():
            studies = [s for s in read_openi(args.data / "openi") if s.split is Split.TRAIN]
            paths = [path for study in studies for path in study.frontals][:PRIMING_IMAGES]
            images = load_images(paths, side=SIDE, cache=args.out)
            save_processor(primed, prime(settings, images, transform), facts)
        for number in (*range(FOLDS), None):
            name = "all" if number is None else f"fold{number}"
            target = args.out / f"{kind}-{name}.safetensors"
            if target.exists():
                continue
            processor = load_processor(primed)[0].train().requires_grad_(True)
            held_out = np.zeros(len(fold), bool) if number is None else fold == number
            _log.info("%s %s: %d images", kind, name, int((~held_out).sum()))
            fit(processor, cases, np.flatnonzero(~held_out), model=model, transform=transform)
            left_out = [cases.ids[row] for row in np.flatnonzero(held_out)]
            save_processor(target, processor, {**facts, "held_out": left_out})


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--data", type=Path, default=Path(os.environ.get("CXR_DATA", "../shared/data"))
    )
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS)
    parser.add_argument("--out", type=Path, default=Path("runs/steering"))
    return parser.parse_args()


if __name__ == "__main__":
    main()
