"""Tiny random weights for model-based metrics, in the real architectures.

They show that a metric's code runs end to end, not what scores it gives.
"""

import json
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    BertConfig,
    BertModel,
    DebertaV2Config,
    DebertaV2ForTokenClassification,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaModel,
)

TEXTS = [
    "The heart is enlarged. There is a small left pleural effusion.",
    "No pneumothorax. The lungs are clear. Mild pulmonary edema cannot be excluded.",
    "Bibasilar atelectasis and consolidation, findings and impression of the chest.",
]
WIDTH = 32
SIZES = {
    "hidden_size": WIDTH,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": 520,
}


def tiny_bert(folder: Path, *, with_weights: bool = True) -> Path:
    """A BERT of two layers with a word-piece vocabulary of our own sentences."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))  # noqa: S106 - no password
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer.train_from_iterator(
        TEXTS, trainers.WordPieceTrainer(vocab_size=200, special_tokens=special)
    )
    ids = [(name, tokenizer.token_to_id(name)) for name in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B [SEP]", special_tokens=ids
    )
    names = ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token")
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=512,
        **dict(zip(names, special, strict=True)),
    )
    config = BertConfig(vocab_size=tokenizer.get_vocab_size(), num_hidden_layers=2, **SIZES)
    return _save(folder, config, wrapped, BertModel if with_weights else None)


def tiny_roberta(folder: Path) -> Path:
    """A RoBERTa of six layers, as distilroberta has, with bytes for word pieces."""
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    ends = [(name, tokenizer.token_to_id(name)) for name in ("</s>", "<s>")]
    tokenizer.post_processor = processors.RobertaProcessing(*ends)
    names = ("bos_token", "pad_token", "eos_token", "unk_token", "mask_token")
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=512,
        cls_token="<s>",  # noqa: S106
        sep_token="</s>",  # noqa: S106
        **dict(zip(names, special, strict=True)),
    )
    config = RobertaConfig(
        vocab_size=tokenizer.get_vocab_size(), num_hidden_layers=6, pad_token_id=1, **SIZES
    )
    return _save(folder, config, wrapped, RobertaModel)


def tiny_chexbert(models_folder: Path) -> None:
    """CheXbert's checkpoint as published: names with "module.", fourteen heads."""
    base = tiny_bert(models_folder / "bert-base-uncased", with_weights=False)
    torch.manual_seed(0)
    bert = BertModel(BertConfig.from_pretrained(base))
    state: dict[str, Any] = {f"module.bert.{n}": v for n, v in bert.state_dict().items()}
    state["module.bert.embeddings.position_ids"] = torch.arange(520)[None]
    for i in range(14):
        size = 4 if i < 13 else 2
        state[f"module.linear_heads.{i}.weight"] = torch.randn(size, WIDTH)
        state[f"module.linear_heads.{i}.bias"] = torch.zeros(size)
    torch.save({"model_state_dict": state}, models_folder / "chexbert.pth")


def _save(folder: Path, config: Any, tokenizer: Any, model: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    config.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    if model is not None:
        torch.manual_seed(0)
        network = model(config)
        # with the default initialisation all vectors of a random model are nearly equal
        for parameter in network.parameters():
            if parameter.ndim > 1:
                torch.nn.init.normal_(parameter, std=0.3)
        network.save_pretrained(folder)
    return folder


def tiny_radgraph(models_folder: Path, name: str) -> None:
    """An unpacked RadGraph archive: DyGIE++ over a tiny BERT. Needs the radeval package."""
    from eval.metrics.radeval import quiet, radeval_module  # noqa: PLC0415

    folder = models_folder / name
    words = folder / "vocabulary"
    words.mkdir(parents=True)
    base = tiny_bert(models_folder / f"{name}-base")
    labels = {"ner": ["", "ANAT-DP", "OBS-DP", "OBS-DA"], "relation": ["", "located_at", "modify"]}
    for kind, names in labels.items():
        (words / f"{name}__{kind}_labels.txt").write_text("\n".join(names) + "\n")
    (words / "non_padded_namespaces.txt").write_text("*labels\n*tags\n")
    bert = {"model_name": str(base), "max_length": 128}
    modules = {
        "ner": {},
        "coref": {"spans_per_word": 0.3, "max_antecedents": 10, "coref_prop": 0},
        "relation": {"spans_per_word": 0.5},
        "events": {
            "trigger_spans_per_word": 0.3,
            "argument_spans_per_word": 0.8,
            "loss_weights": {"trigger": 1.0, "arguments": 1.0},
        },
    }
    config = {
        "dataset_reader": {"max_span_width": 4, "token_indexers": {"bert": bert}},
        "model": {
            "type": "dygie",
            "embedder": {"token_embedders": {"bert": bert}},
            "initializer": {},
            "module_initializer": {},
            "modules": modules,
            "feature_size": 8,
            "max_span_width": 4,
            "target_task": "ner",
            "feedforward_params": {"num_layers": 1, "hidden_dims": 16, "dropout": 0.1},
            "loss_weights": {"ner": 1.0, "relation": 1.0, "coref": 0.0, "events": 0.0},
        },
    }
    (folder / "config.json").write_text(json.dumps(config))
    core = radeval_module("radgraph._vendor.core")
    saved: dict[str, Any] = {}

    # the package can only load weights, so its own constructor builds a model without them
    def keep(model: Any, _: Any, **__: Any) -> None:
        torch.manual_seed(1)
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
        saved.update(model.state_dict())

    torch.save({}, folder / "weights.th")
    original = torch.nn.Module.load_state_dict
    torch.nn.Module.load_state_dict = keep  # type: ignore[assignment,method-assign]
    try:
        with quiet():
            core.RadGraph(model_type=name, model_cache_dir=str(models_folder), cuda=-1)
    finally:
        torch.nn.Module.load_state_dict = original  # type: ignore[method-assign]
    torch.save(saved, folder / "weights.th")


def tiny_ratescore(models_folder: Path) -> None:
    """A DeBERTa that tags words and a BERT that embeds them."""
    entities = ["ABNORMALITY", "NON-ABNORMALITY", "DISEASE", "NON-DISEASE", "ANATOMY"]
    tags = ["O", *(f"{mark}-{entity}" for entity in entities for mark in "BI")]
    reader = tiny_bert(models_folder / "RaTE-NER-Deberta", with_weights=False)
    size = BertConfig.from_pretrained(reader).vocab_size
    config = DebertaV2Config(
        vocab_size=size, num_hidden_layers=1, id2label=dict(enumerate(tags)), **SIZES
    )
    config.label2id = {tag: i for i, tag in enumerate(tags)}
    torch.manual_seed(0)
    DebertaV2ForTokenClassification(config).save_pretrained(reader)
    tiny_bert(models_folder / "BioLORD-2023-C")


def tiny_green(models_folder: Path) -> None:
    """A Llama of one layer, with bytes for word pieces."""
    folder = tiny_roberta(models_folder / "GREEN-radllama2-7b")
    (folder / "model.safetensors").unlink()
    size = RobertaConfig.from_pretrained(folder).vocab_size
    config = LlamaConfig(
        vocab_size=size,
        hidden_size=WIDTH,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=4096,
    )
    torch.manual_seed(0)
    LlamaForCausalLM(config).save_pretrained(folder)
