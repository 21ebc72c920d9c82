"""The one place that trains: settings and studies in, a model folder out.

A run can be killed at any moment: started again with the same command, it continues at the last
checkpoint with the same steps, draws and bits.
"""

import logging
from dataclasses import replace
from pathlib import Path

import torch

from encoders.eclip.finding_maps import CELL
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
from encoders.training.trainer import OnStep, Trainer, new_accelerator
from encoders.training.training_set import load_expert_tensors, load_training_tensors

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
        settings: of the run; a run folder of other settings is refused.
        dataset: what to learn from; ``val`` is not used.
        out: run folder: run.json, metrics.csv, curves.svg, checkpoint, model.
        cache: decoded images.
        on_step: told after every step.

    Raises:
        TrainingDataError: the data, the run folder or this machine cannot be used.
        EncoderError: a package with starting weights is not installed.
    """
    accelerator = new_accelerator(settings)
    is_main = accelerator.is_main_process
    torch.manual_seed(settings.seed)
    model, transform = init_model(settings)
    examples = [example for example in dataset.labelled if example.split is Split.TRAIN]
    labelled = None
    if settings.labelled is not None:
        labelled = load_labelled_tensors(
            examples, findings=settings.labelled.findings, side=settings.cache_side, cache=cache
        )
    if labelled and settings.pretrain:
        with accelerator.main_process_first():  # the others read what it learned
            pretrain(
                settings.pretrain,
                settings,
                model=model,
                data=labelled,
                out=out / PRETRAIN_FOLDER,
                low_precision=torch.bfloat16 if accelerator.mixed_precision == "bf16" else None,
                on_step=on_step,
            )
        # what starts at random from here on is the same whether this was done now or before a cut
        torch.manual_seed(step_seed(settings.seed, step=-1))
    data = load_training_tensors(dataset.train, settings=settings, model=model, cache=cache)
    experts = None
    if settings.expert is not None:
        experts = load_expert_tensors(
            dataset.experts, studies=dataset.train, side=settings.cache_side, cache=cache
        )
    # whole batches; the images left over are others in each epoch
    steps = settings.optim.epochs * (len(data.study) // settings.optim.batch_size)
    facts = settings.model_dump(mode="json")
    drawn = dataset.experts if settings.expert else ()
    learned: list[object] = [[each.study_id for each in part] for part in (dataset.train, drawn)]
    if settings.labelled:
        learned.append([[example.image_id, example.labels] for example in examples])
    folder = RunFolder(out, fingerprint=fingerprint(facts, *learned))
    objective = Objective(
        model,
        settings,
        label_counts=data.labels.sum(0),
        image_labels=len(labelled.label_names) if labelled else 0,
    )
    trainer = Trainer(settings, objective=objective, steps=steps, accelerator=accelerator)
    trainer.step = folder.load(trainer.parts)
    if trainer.step:
        _log.info("resuming after step %d", trainer.step)
    if is_main:  # only now: `load` refuses the folder of another run
        folder.start(
            settings=facts,
            expert_images=len(drawn),
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
                folder.save(trainer.step, trainer.parts)
        on_step(trainer.step, steps, values["loss"])
    if is_main:
        save_pretrained(out / MODEL_FOLDER, model=trainer.averaged, transform=transform)
        folder.write_curves()
    accelerator.wait_for_everyone()
    return out / MODEL_FOLDER


def init_model(settings: TrainSettings) -> tuple[EclipModel, EvalTransform]:
    """The untrained model of the settings, from its starting weights, and its transform.

    Raises:
        EncoderError: a tower or its starting weights cannot be had.
        TrainingDataError: a setting is not the one of the model to continue from.
    """
    chosen = settings.model
    if chosen.start_from is not None:
        return _continued_model(settings, chosen.start_from)
    image_tower, text_tower = chosen.image_tower, chosen.text_tower
    if chosen.image_weights:
        image_tower = pretrained_tower_settings(chosen.image_weights, role="image")
    if chosen.text_weights:
        text_tower = pretrained_tower_settings(chosen.text_weights, role="text")
    model = EclipModel(
        EclipConfig(
            name=settings.name,
            dim=chosen.dim,
            image_tower=image_tower,
            text_tower=text_tower,
            dropout=chosen.dropout,
            findings=settings.labelled.findings if settings.labelled else (),
            map_grid=-(-settings.size // CELL),
        )
    )
    if chosen.start == "imagenet" and isinstance(model.image_tower, EfficientNetLite):
        model.image_tower.load_imagenet()
    if chosen.image_weights:
        load_pretrained_tower(model.image_tower, chosen.image_weights, role="image")
    if chosen.text_weights:
        load_pretrained_tower(model.text_tower, chosen.text_weights, role="text")
    return model, EvalTransform(size=settings.size)


def _continued_model(settings: TrainSettings, folder: Path) -> tuple[EclipModel, EvalTransform]:
    """A trained model under the run's name; settings that were given must be its own."""
    model, transform = load_pretrained(folder)
    chosen, config = settings.model, model.config
    given: dict[str, tuple[object, object]] = {
        f"model.{name}": (_comparable(getattr(chosen, name)), _comparable(getattr(config, name)))
        for name in ("dim", "dropout", "image_tower", "text_tower")
        if name in chosen.model_fields_set
    }
    if "size" in settings.model_fields_set:
        given["size"] = settings.size, transform.size
    if settings.labelled:
        given["labelled.findings"] = settings.labelled.findings, config.findings
    for name, (wanted, has) in given.items():
        if wanted != has:
            raise TrainingDataError(
                f"{name} is {wanted}, but {has} in {folder}, the model.start_from: change it to "
                "that, or leave the setting out"
            )
    model.config = replace(config, name=settings.name)
    return model.requires_grad_(True), transform


def _comparable(value: object) -> object:
    """Without a tower's tokenizer: a model's folder has a copy of its own."""
    if isinstance(value, dict):
        return {key: each for key, each in value.items() if key != "tokenizer"}
    return value
