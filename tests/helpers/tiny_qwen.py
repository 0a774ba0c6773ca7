"""A text encoder in miniature of the kind that RAEv2 has, Qwen3, with random weights and a tokenizer of letters."""

from pathlib import Path
from typing import Any


def write_qwen(folder: Path, *, width: int = 24, length: int = 64, seed: int = 0) -> Path:
    """A folder for ``--text_encoder``, as transformers saves it; of "" its tokenizer makes no token, as Qwen3's.

    Args:
        width: of a hidden state.
        length: tokens that it reads at most.
    """
    import torch
    from transformers import Qwen3Config, Qwen3Model

    tokenizer = letters()
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = Qwen3Model(
            Qwen3Config(
                vocab_size=len(tokenizer),
                hidden_size=width,
                intermediate_size=2 * width,
                num_hidden_layers=2,
                num_attention_heads=2,
                num_key_value_heads=1,
                head_dim=8,
                max_position_embeddings=length,
            )
        )
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def letters() -> Any:
    """A tokenizer of bytes, without tokens that begin or end a text."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from tokenizers.pre_tokenizers import ByteLevel
    from transformers import PreTrainedTokenizerFast

    words = ["<|endoftext|>", *sorted(ByteLevel.alphabet())]
    tokenizer = Tokenizer(models.BPE(vocab={word: k for k, word in enumerate(words)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<|endoftext|>", eos_token="<|endoftext|>"
    )
