"""Training: settings and a dataset in, a model folder out.

A run may be killed at any moment: the same call resumes it from the last checkpoint, with the same
result to the bit.
"""

import logging
from dataclasses import replace
from pathlib import Path

import torch

from encoders.eclip.finding_maps import CELL_SIZE
from encoders.eclip.model import EclipConfig, EclipModel, load_pretrained, save_pretrained
from encoders.preprocess import EvalTransform
from encoders.towers.efficientnet_lite import EfficientNetLite
from encoders.towers.hugging_face import load_pretrained_tower, pretrained_tower_settings
from encoders.training.config import TrainSettings
from encoders.training.dataloader import BatchLoader, step_seed
from encoders.training.dataset import Dataset, Split, TrainingDataError
from encoders.training.labelled import load_labelled_tensors
from encoders.training.objective import Objective
from encoders.training.pretrain import pretrain
from encoders.training.run_folder import RunFolder, fingerprint
from encoders.training.tensors import load_expert_tensors, load_training_tensors
from encoders.training.trainer import OnStep, Trainer, create_accelerator

_log = logging.getLogger(__name__)

MODEL_FOLDER, PRETRAIN_FOLDER = "model", "pretrain"


def train(
    settings: TrainSettings,
    *,
    dataset: Dataset,
    out: Path,
    cache: Path,
    on_step: OnStep = lambda *_: None,
) -> Path:
    """Train, or resume; returns the model's folder in ``out``.

    Args:
        settings: of the run.
        dataset: ``val`` is not used.
        out: run folder: run.json, metrics.csv, curves.svg, checkpoint, model.
        cache: folder for decoded images and prepared texts.
        on_step: called after every step.

    Raises:
        TrainingDataError: the data cannot be used, or ``out`` holds a different run.
        EncoderError: a package with starting weights is not installed.
    """
    accelerator = create_accelerator(settings)
    is_main = accelerator.is_main_process
    torch.manual_seed(settings.seed)
    model, transform = init_model(settings)
    dataset = _select(dataset, settings)
    labelled = experts = None
    if settings.labelled:
        labelled = load_labelled_tensors(
            dataset.labelled,
            findings=settings.labelled.findings,
            side=settings.cache_side,
            cache=cache,
        )
    if labelled and settings.pretrain:
        with accelerator.main_process_first():  # the others load its result
            pretrain(
                settings,
                settings.pretrain,
                model=model,
                data=labelled,
                out=out / PRETRAIN_FOLDER,
                low_precision=torch.bfloat16 if accelerator.mixed_precision == "bf16" else None,
                on_step=on_step,
            )
        # so that the weights initialized below are the same in a resumed run
        torch.manual_seed(step_seed(settings.seed, step=-1))
    data = load_training_tensors(dataset.train, settings=settings, model=model, cache=cache)
    if settings.expert:
        experts = load_expert_tensors(
            dataset.experts, studies=dataset.train, side=settings.cache_side, cache=cache
        )
    steps = settings.optim.epochs * (len(data.study) // settings.optim.batch_size)
    settings_json = settings.model_dump(mode="json")
    identity: list[object] = [
        settings_json,
        [study.study_id for study in dataset.train],
        [image.study_id for image in dataset.experts],
    ]
    if settings.labelled:
        identity.append([[example.image_id, example.labels] for example in dataset.labelled])
    folder = RunFolder(out, fingerprint=fingerprint(*identity))
    objective = Objective(
        model,
        settings,
        label_counts=data.labels.sum(0),
        image_label_count=len(labelled.label_names) if labelled else 0,
    )
    trainer = Trainer(settings, objective=objective, steps=steps, accelerator=accelerator)
    trainer.step = folder.load(trainer.checkpoint_parts)
    if trainer.step:
        _log.info("resuming after step %d", trainer.step)
    if is_main:  # after `load`, which refuses the folder of another run
        folder.start(
            settings=settings_json,
            expert_images=len(dataset.experts),
            studies=len(dataset.train),
            images=len(data.study),
            left_out=dataset.left_out,
            label_names=data.label_names,
            precision=accelerator.mixed_precision,
        )
        folder.trim_metrics(trainer.step)
    loader = BatchLoader(
        settings,
        data=data,
        experts=experts,
        labelled=labelled,
        transform=transform,
        steps=steps,
        rank=accelerator.process_index,
        ranks=accelerator.num_processes,
    )
    for batch in loader.batches(trainer.step):
        values = trainer.take_step(batch)
        if is_main:
            folder.append_metrics(trainer.step, values)
            if trainer.step == steps or trainer.step % settings.checkpoint_every == 0:
                folder.save(trainer.step, trainer.checkpoint_parts)
        on_step(trainer.step, steps, values["loss"])
    if is_main:
        save_pretrained(out / MODEL_FOLDER, model=trainer.averaged, transform=transform)
        folder.write_curves()
    accelerator.wait_for_everyone()
    return out / MODEL_FOLDER


def _select(dataset: Dataset, settings: TrainSettings) -> Dataset:
    """Only the annotated images that the settings train on."""
    labelled = [example for example in dataset.labelled if example.split is Split.TRAIN]
    return replace(
        dataset,
        experts=dataset.experts if settings.expert else (),
        labelled=tuple(labelled) if settings.labelled else (),
    )


def init_model(settings: TrainSettings) -> tuple[EclipModel, EvalTransform]:
    """The model to train, with its starting weights, and its transform.

    Raises:
        EncoderError: a tower is unknown, or its starting weights cannot be loaded.
        TrainingDataError: a setting contradicts the model to continue from.
    """
    model_settings = settings.model
    if model_settings.start_from is not None:
        return _load_to_continue(settings, model_settings.start_from)
    image_tower, text_tower = model_settings.image_tower, model_settings.text_tower
    if model_settings.image_weights:
        image_tower = pretrained_tower_settings(model_settings.image_weights, role="image")
    if model_settings.text_weights:
        text_tower = pretrained_tower_settings(model_settings.text_weights, role="text")
    model = EclipModel(
        EclipConfig(
            name=settings.name,
            dim=model_settings.dim,
            image_tower=image_tower,
            text_tower=text_tower,
            dropout=model_settings.dropout,
            findings=settings.labelled.findings if settings.labelled else (),
            map_grid=-(-settings.size // CELL_SIZE),
        )
    )
    if model_settings.start == "imagenet" and isinstance(model.image_tower, EfficientNetLite):
        model.image_tower.load_imagenet()
    if model_settings.image_weights:
        load_pretrained_tower(model.image_tower, model_settings.image_weights, role="image")
    if model_settings.text_weights:
        load_pretrained_tower(model.text_tower, model_settings.text_weights, role="text")
    return model, EvalTransform(size=settings.size)


def _load_to_continue(settings: TrainSettings, folder: Path) -> tuple[EclipModel, EvalTransform]:
    """A trained model under the run's name; settings given explicitly must match it."""
    model, transform = load_pretrained(folder)
    given, config = settings.model, model.config
    pairs: dict[str, tuple[object, object]] = {
        f"model.{name}": (
            _without_tokenizer(getattr(given, name)),
            _without_tokenizer(getattr(config, name)),
        )
        for name in ("dim", "dropout", "image_tower", "text_tower")
        if name in given.model_fields_set
    }
    if "size" in settings.model_fields_set:
        pairs["size"] = settings.size, transform.size
    if settings.labelled:
        pairs["labelled.findings"] = settings.labelled.findings, config.findings
    for name, (value, trained_value) in pairs.items():
        if value != trained_value:
            raise TrainingDataError(
                f"{name} is {value}, but {trained_value} in {folder}, the model.start_from: change "
                "it to that, or leave the setting out"
            )
    model.config = replace(config, name=settings.name)
    return model.requires_grad_(True), transform


def _without_tokenizer(value: object) -> object:
    """A tower's settings to compare: each model folder has its own copy of the tokenizer."""
    if isinstance(value, dict):
        return {key: setting for key, setting in value.items() if key != "tokenizer"}
    return value
