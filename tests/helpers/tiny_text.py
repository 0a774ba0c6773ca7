"""Text encoders in miniature with random weights, as transformers saves them: one folder for each family.

Tokenizers are of bytes, with two words more: any text has tokens, and its length is easily said.
"""

import json
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import torch

from tiny_clip import write_clip

FAMILIES = ("bert", "t5", "clip", "qwen3")
WIDTH = 32
LENGTH = {"bert": 64, "t5": None, "clip": 16, "qwen3": 64}
"""Tokens that a model reads at most; T5 has no table of positions."""
ADDED = {"bert": 2, "t5": 1, "clip": 2, "qwen3": 0}
"""Special tokens that a tokenizer adds to each text."""
_SIZES = {"hidden_size": WIDTH, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}


def write_text_encoder(
    folder: Path, family: str, *, seed: int = 0, tokenizer: bool = True, **own: Any
) -> Path:
    """A folder with configuration, weights and, if so asked, the tokenizer.

    Args:
        own: settings of :func:`write_tokenizer`.
    """
    if family == "clip":
        return write_clip(folder, seed=seed)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = _MODELS[family]()
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.2)
    model.save_pretrained(folder)
    if tokenizer:
        write_tokenizer(folder, family, **own)
    return folder


@cache
def text_encoder_folder(family: str, seed: int = 0) -> Path:
    """The folder of a family, made once in a session; nobody changes it."""
    return write_text_encoder(Path(mkdtemp(prefix="unirae-text-")) / family, family, seed=seed)


def write_tokenizer(
    folder: Path, family: str, *, padding_side: str = "right", words: tuple[str, str] = ("cat", "dog")
) -> None:
    """A tokenizer of bytes and two words; Qwen3's has no token to fill up with, and makes none of ""."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    special = {"bert": ["[PAD]", "[CLS]", "[SEP]"], "t5": ["<pad>", "</s>"], "qwen3": ["<|endoftext|>"]}[
        family
    ]
    vocabulary = [*special, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    merges = []
    for word in words:
        for end in range(2, len(word) + 1):
            merges.append((word[: end - 1], word[end - 1]))
            vocabulary.append(word[:end])
    numbers = {token: number for number, token in enumerate(dict.fromkeys(vocabulary))}
    bare = Tokenizer(models.BPE(vocab=numbers, merges=merges))
    bare.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # pyright: ignore[reportAttributeAccessIssue]
    bare.decoder = decoders.ByteLevel()  # pyright: ignore[reportAttributeAccessIssue]
    around = {"bert": "[CLS] $A [SEP]", "t5": "$A </s>"}.get(family)
    if around is not None:
        bare.post_processor = processors.TemplateProcessing(  # pyright: ignore[reportAttributeAccessIssue]
            single=around, special_tokens=[(token, numbers[token]) for token in special]
        )
    names = {
        "bert": {"pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]"},
        "t5": {"pad_token": "<pad>", "eos_token": "</s>"},
        "qwen3": {"eos_token": "<|endoftext|>"},
    }[family]
    PreTrainedTokenizerFast(
        tokenizer_object=bare, padding_side=padding_side, model_max_length=LENGTH[family] or 512, **names
    ).save_pretrained(folder)


def _vocabulary() -> int:
    return 280  # bytes, special tokens and the words' parts


def _bert() -> Any:
    from transformers import BertConfig, BertModel

    return BertModel(BertConfig(vocab_size=_vocabulary(), max_position_embeddings=64, **_SIZES))


def _t5() -> Any:
    from transformers import T5Config, T5ForConditionalGeneration

    sizes = {"d_model": WIDTH, "d_kv": 16, "d_ff": 64, "num_layers": 2, "num_heads": 2}
    return T5ForConditionalGeneration(T5Config(vocab_size=_vocabulary(), decoder_start_token_id=0, **sizes))


def _qwen3() -> Any:
    from transformers import Qwen3Config, Qwen3ForCausalLM

    heads = {"num_key_value_heads": 1, "head_dim": 16, "max_position_embeddings": 64}
    return Qwen3ForCausalLM(
        Qwen3Config(vocab_size=_vocabulary(), tie_word_embeddings=True, **_SIZES, **heads)
    )


_MODELS = {"bert": _bert, "t5": _t5, "qwen3": _qwen3}


def edit_json(file: Path, **changes: Any) -> None:
    """Change some keys of a JSON file."""
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))
