"""Features of CLIP for CLIPScore: images by the model's own processor, prompts by its own tokenizer.

As in torchmetrics: 8-bit images go through transformers' processor on the CPU (resize, crop, mean and std as its file
says), so that an accelerator sees the same pixels; prompts are lower-cased, split and numbered by the tokenizer. All
prompts are filled up to the network's length, since the length of a batch would change last digits.
"""

import json
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor

from unirae.core.arguments import argument
from unirae.core.errors import WeightsError
from unirae.core.hub import first_line, hub_asked_once, hub_problem
from unirae.core.io import state_sha256
from unirae.core.strict import raise_on_differences
from unirae.core.weights import VARIABLE, folder_name, weights_dir
from unirae.metrics.clip_score import PromptExtractor, Tokens
from unirae.metrics.extractors import POOLED
from unirae.models.hf_loading import quiet_transformers

MODEL = "openai/clip-vit-large-patch14"
_ARGMAX_OF_IDS = 2
"""End-of-text id in the configuration of old CLIPs, whose features are read where the highest token id stands."""
_PROCESSING = (
    *("do_resize", "size", "resample", "do_center_crop", "crop_size", "do_rescale", "rescale_factor"),
    *("do_normalize", "image_mean", "image_std"),
)
_TOKENISED_AT_ONCE = 4096


class ClipExtractor(PromptExtractor):
    """A CLIP of transformers: 8-bit RGB of any size, and texts, to vectors in one space.

    Args:
        weights: a hub name, or a folder with the model, its processor and its tokenizer.

    Raises:
        WeightsError: If a part is missing or damaged, the parts do not fit each other, or the model is no CLIP.
    """

    name = "clip-score"  # a hyphen, which no name of an encoder has: a folder of one may be called clip

    def __init__(self, *, weights: str = MODEL, device: torch.device | str = "cpu") -> None:
        network, self._images, self._tokenizer = _load(weights)
        text = network.config.text_config
        self._length = int(text.max_position_embeddings)
        self._network = network.eval().requires_grad_(False).to(device)
        self.device = torch.device(device)
        self.widths = {POOLED: int(network.config.projection_dim)}
        processing = self._images.to_dict()
        self.identity = {
            "network": "CLIP, projected features",
            "weights": weights,
            "sha256": state_sha256(network.state_dict()),
            "architecture_sha256": _architecture_sha256(network.config),
            "processor": type(self._images).__name__,
            "processing": json.loads(json.dumps({key: processing.get(key) for key in _PROCESSING})),
            "max_tokens": self._length,
        }

    def forward(self, images: UInt8[Tensor, "b 3 H W"]) -> dict[str, Float[Tensor, "b d"]]:
        """One projected vector per image."""
        pixels = _pixels(self._images, images).to(self.device)
        return {POOLED: self._network.visual_projection(self._network.vision_model(pixels).pooler_output)}

    def of_tokens(self, ids: Int64[Tensor, "b l"], mask: Int64[Tensor, "b l"]) -> Float[Tensor, "b d"]:
        """One projected vector per prompt, from its end-of-text token."""
        found = self._network.text_model(input_ids=ids, attention_mask=mask)
        return self._network.text_projection(found.pooler_output)

    def tokenise(self, prompts: Sequence[str]) -> Tokens:
        """The prompts' tokens; one that is too long keeps its first tokens and the end-of-text token."""
        ids = torch.full((len(prompts), self._length), self._tokenizer.pad_token_id)
        mask, cut = torch.zeros_like(ids), 0
        for start in range(0, len(prompts), _TOKENISED_AT_ONCE):
            some = list(prompts[start : start + _TOKENISED_AT_ONCE])
            for row, found in enumerate(self._tokenizer(some, verbose=False)["input_ids"], start):
                cut += len(found) > self._length
                kept = found if len(found) <= self._length else [*found[: self._length - 1], found[-1]]
                ids[row, : len(kept)], mask[row, : len(kept)] = torch.tensor(kept), 1
        return Tokens(ids=ids, mask=mask, cut=cut)


def _pixels(processor: Any, images: UInt8[Tensor, "b 3 H W"]) -> Float[Tensor, "b 3 h w"]:
    processed = processor(images=list(images.cpu()), return_tensors="pt", input_data_format="channels_first")
    return processed["pixel_values"]


def _load(weights: str) -> tuple[Any, Any, Any]:
    """The network, its image processor and its tokenizer; first from what is here, then from the hub."""
    place, problem = _place(weights), ""
    for local_only in (True,) if Path(place).is_dir() else (True, False):
        with quiet_transformers(), nullcontext() if local_only else hub_asked_once():
            try:
                parts = _parts(place, weights, local_only=local_only)
                _check_parts(weights, *parts)
                return parts
            except (OSError, ValueError) as error:
                problem = hub_problem(error, weights)
            except _damage() as error:
                problem = f"a file is damaged or does not fit the others: {first_line(error)}"
    raise _not_loaded(weights, problem)


def _parts(place: str, weights: str, *, local_only: bool) -> tuple[Any, Any, Any]:
    from transformers import AutoConfig, CLIPModel, CLIPProcessor

    config = AutoConfig.from_pretrained(place, local_files_only=local_only)
    if config.model_type != "clip":
        raise WeightsError(
            f"{argument('metrics.clip', weights)}: it is a {config.model_type}, not a CLIP; clip_score is defined by "
            f"CLIP's features: give a CLIP in transformers' format, such as {MODEL}"
        )
    processor: Any = CLIPProcessor.from_pretrained(place, local_files_only=local_only)
    loaded: Any = CLIPModel.from_pretrained(
        place,
        dtype=torch.float32,
        local_files_only=local_only,
        output_loading_info=True,
        ignore_mismatched_sizes=True,  # so that the report below names them
    )
    network, info = loaded
    raise_on_differences(
        f"CLIP of {argument('metrics.clip', weights)}",
        missing=set(info["missing_keys"]),
        unexpected={key for key in info["unexpected_keys"] if not key.endswith("position_ids")},
        mismatched={str(key) for key in info["mismatched_keys"]},
    )
    return network, processor.image_processor, processor.tokenizer


def _place(weights: str) -> str:
    """The folder of the weights, or their name on the hub."""
    path = Path(weights)
    with suppress(RuntimeError):  # ~name of nobody
        path = path.expanduser()
    if weights and path.is_dir():
        return str(path)
    if path.exists() or weights.startswith((".", "/", "~")) or weights.count("/") > 1 or not weights:
        raise _not_loaded(weights, "it is no folder")
    carried = weights_dir()
    if carried is None:
        return weights
    folder = carried / folder_name(weights)
    if not (folder / "config.json").is_file():
        raise WeightsError(
            f"{argument('metrics.clip', weights)}: there is no {folder}, and with {VARIABLE} set nothing is "
            f"downloaded. Fetch it where there is a network: `hf download {weights} --local-dir {folder}`"
        )
    return str(folder)


def _not_loaded(weights: str, problem: str) -> WeightsError:
    return WeightsError(
        f"{argument('metrics.clip', weights)}: cannot load a CLIP from there ({problem}). Fetch one where there is a "
        f"network (`hf download {MODEL} --local-dir DIR`) and set {argument('metrics.clip', 'DIR')}"
    )


def _damage() -> tuple[type[Exception], ...]:
    """Errors of transformers, tokenizers and torch for files that are not what they should be."""
    from safetensors import SafetensorError

    return SafetensorError, UnpicklingError, RuntimeError, EOFError, KeyError, TypeError, AttributeError


def _check_parts(weights: str, network: Any, processor: Any, tokenizer: Any) -> None:
    """Refuse a processor or a tokenizer that does not belong to the network: it would give some number."""
    said, text = argument("metrics.clip", weights), network.config.text_config
    words = tokenizer("a photo")["input_ids"][1:-1]
    if not words or tokenizer.unk_token_id in words:  # without its files transformers makes an empty one
        raise WeightsError(
            f"{said}: its tokenizer knows no words; its folder must have tokenizer.json, or vocab.json and merges.txt, "
            f"as `hf download {MODEL} --local-dir DIR` fetches them"
        )
    end = tokenizer.eos_token_id
    is_end = (
        end == max(tokenizer.get_vocab().values())
        if text.eos_token_id == _ARGMAX_OF_IDS
        else end == text.eos_token_id
    )
    if len(tokenizer) > text.vocab_size or not is_end or tokenizer.pad_token_id is None:
        raise WeightsError(
            f"{said}: its tokenizer ({len(tokenizer)} tokens, {end} ends a text) is not that of its network "
            f"({text.vocab_size} tokens, {text.eos_token_id} ends a text)"
        )
    size = network.config.vision_config.image_size
    wide = torch.zeros(1, 3, size + 8, 2 * size, dtype=torch.uint8)
    found = list(_pixels(processor, wide).shape[1:])
    if found != [3, size, size]:
        raise WeightsError(
            f"{said}: its image processor makes {found}, its network reads {[3, size, size]} (channels, height, width)"
        )


def _architecture_sha256(config: Any) -> str:
    """Name of all that decides features beside the weights, such as the number of heads."""
    from unirae.core.io import sha256_of_text

    own = {half: getattr(config, f"{half}_config").to_dict() for half in ("text", "vision")}
    keys = ("num_attention_heads", "hidden_act", "layer_norm_eps", "patch_size", "image_size")
    return sha256_of_text(json.dumps([{key: own[half].get(key) for key in keys} for half in own]))
