"""A CLIP in miniature with random weights, as transformers saves it, and torchmetrics' score of it."""

from pathlib import Path
from typing import Any

import torch
from tokenizers.pre_tokenizers import ByteLevel

LENGTH = 16
"""Tokens of a prompt, with those that begin and end it."""
_MERGES = [("c", "a"), ("ca", "t</w>"), ("d", "o"), ("do", "g</w>")]


def write_clip(
    folder: Path, *, seed: int = 0, old_end: bool = False, processing: dict[str, Any] | None = None
) -> Path:
    """A folder for ``--clip``: text and images of 32 px in a space of 24 numbers.

    Args:
        old_end: the end-of-text id in the configuration is 2, as in OpenAI's files.
        processing: other settings of the image processor.
    """
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPProcessor

    tokenizer = tiny_tokenizer()
    end = tokenizer.eos_token_id
    half = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    text = {"vocab_size": len(tokenizer), "max_position_embeddings": LENGTH, "pad_token_id": end}
    ids = {"bos_token_id": end - 1, "eos_token_id": 2 if old_end else end}
    torch.manual_seed(seed)
    model = CLIPModel(
        CLIPConfig(
            text_config={**half, **text, **ids},
            vision_config={**half, "image_size": 32, "patch_size": 8},
            projection_dim=24,
        )
    )
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    settings = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}, **(processing or {})}
    model.save_pretrained(folder)
    CLIPProcessor(image_processor=CLIPImageProcessor(**settings), tokenizer=tokenizer).save_pretrained(folder)
    return folder


def tiny_tokenizer() -> Any:
    """Bytes, two words, and the tokens that begin and end a text."""
    from transformers import CLIPTokenizer

    letters = sorted(ByteLevel.alphabet())
    words = [*letters, *(f"{letter}</w>" for letter in letters), *(a + b for a, b in _MERGES)]
    words += ["<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(
        vocab={word: k for k, word in enumerate(words)}, merges=_MERGES, model_max_length=LENGTH
    )


class TensorFeatures:
    """The model and the processor of a folder for torchmetrics, which expects tensors as transformers 4 gave."""

    def __init__(self, folder: Path) -> None:
        from transformers import CLIPModel, CLIPProcessor

        self.model = CLIPModel.from_pretrained(folder).eval().requires_grad_(False)
        self.processor: Any = CLIPProcessor.from_pretrained(folder)
        self.config = self.model.config

    def __call__(self) -> "tuple[TensorFeatures, Any]":
        return self, self.processor

    def to(self, device: Any) -> "TensorFeatures":
        return self

    def get_image_features(self, *inputs: Any) -> Any:
        return self.model.get_image_features(*inputs).pooler_output

    def get_text_features(self, *inputs: Any) -> Any:
        return self.model.get_text_features(*inputs).pooler_output
