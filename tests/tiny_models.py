"""Stand-ins for the weights of model-based measures: the same architectures, tiny and random.

They say nothing of how a measure behaves; they prove that its code runs, end to end.
"""

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    BertConfig,
    BertModel,
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
    """CheXbert's checkpoint as it is published: names with "module.", thirteen heads and one."""
    base = tiny_bert(models_folder / "bert-base-uncased", with_weights=False)
    torch.manual_seed(0)
    bert = BertModel(BertConfig.from_pretrained(base))
    state: dict[str, Any] = {f"module.bert.{n}": v for n, v in bert.state_dict().items()}
    state["module.bert.embeddings.position_ids"] = torch.arange(520)[None]
    for at in range(14):
        size = 4 if at < 13 else 2
        state[f"module.linear_heads.{at}.weight"] = torch.randn(size, WIDTH)
        state[f"module.linear_heads.{at}.bias"] = torch.zeros(size)
    torch.save({"model_state_dict": state}, models_folder / "chexbert.pth")


def _save(folder: Path, config: Any, tokenizer: Any, model: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    config.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    if model is not None:
        torch.manual_seed(0)
        built = model(config)
        # the default initialisation is so small that all vectors of a random model are one
        for parameter in built.parameters():
            if parameter.ndim > 1:
                torch.nn.init.normal_(parameter, std=0.3)
        built.save_pretrained(folder)
    return folder
