"""A checkpoint's description of itself in the words of a model card: model, classes, data, optimizer."""

from typing import Any

from unirae.evaluation.passes.reading import last_part

_ENCODERS = {
    "dinov2": "DINOv2",
    "siglip2": "SigLIP2",
    "mae": "MAE",
    "generic_hf": "a ViT of transformers",
    "timm": "a ViT of timm",
}
_SOURCES = {
    "EmojiSource": "the emoji that come with UniRAE (Noto Color Emoji, 64 px)",
    "OneImageSource": "one of the emoji that come with UniRAE",
    "PhotosSource": "crops of photographs that come with scikit-image and scikit-learn",
    "SyntheticSource": "synthetic pictures: gradients with polygons",
    "HFSource": "a data set in the Hugging Face format",
    "FolderSource": "a folder of images",
}
_NAMED_CLASSES = 20
"""Most class names that a card lists."""


def autoencoder_in_words(spec: dict[str, Any]) -> dict[str, str]:
    """Rows of a table about ``about["rae"]``."""
    encoder, decoder = spec["encoder"], spec["decoder"]
    kind = _ENCODERS.get(encoder["kind"], encoder["kind"])
    channels, *grid = spec.get("latent_shape") or (decoder["token_dim"], *decoder["grid"])
    made = [tokens * decoder["patch_size"] for tokens in decoder["grid"]]
    return {
        "encoder": f"{encoder['name']} ({kind})",
        "it reads": f"{_size(spec['rae']['encoder_input_size'])} px",
        "latents": f"{_size(grid)} tokens of {channels} numbers",
        "decoder": f"a ViT: {_stack(decoder['depth'], decoder['width'], decoder['num_heads'])}",
        "it makes": f"{_size(made)} px",
    }


def generator_in_words(said: dict[str, Any], class_names: list[str]) -> dict[str, str]:
    """Rows of a table about ``about["dit"]``."""
    sizes = said["architecture"]
    depth, width, heads = sizes["depth"], sizes["hidden_size"], sizes["num_heads"]
    if said["kind"] == "dit_dh":
        trunk, head = (_stack(depth[i], width[i], heads[i]) for i in (0, 1))
        network = f"DiT^DH: a trunk of {trunk}; a head of {head}"
    else:
        network = f"DiT: {_stack(depth, width, heads)}"
    shape = (
        sizes["input_size"] if isinstance(sizes["input_size"], list | tuple) else [sizes["input_size"]] * 2
    )
    return {
        "network": network,
        "latents": f"{_size(shape)} of {sizes['in_channels']} numbers",
        "classes": _classes(sizes["num_classes"], class_names),
        "time shift": f"{said['time_shift']:.4g}",
    }


def data_in_words(recorded: dict[str, Any]) -> str | None:
    """The data of a configuration, in words; None where ``data`` does not say.

    A path is given by its last part alone: a card is for others, and where a folder lay is nobody's concern.
    """
    source = recorded.get("source") or {}
    kind = str(source.get("_target_", "")).rpartition(".")[2]
    where = source.get("data_dir")
    if not kind and where is None:
        return None
    words = _SOURCES.get(kind, kind or "images")
    return words if where is None else f"{words}: {last_part(str(where))}"


def optimizer_in_words(settings: dict[str, Any]) -> str:
    """An optimizer's name and settings."""
    named = {"lr": "learning rate", "weight_decay": "weight decay"}
    kind = settings.get("kind", "adamw")
    values = [f"{named.get(key, key)} {_value(value)}" for key, value in settings.items() if key != "kind"]
    return ", ".join([{"adamw": "AdamW"}.get(kind, str(kind)), *values])


def _classes(count: int, names: list[str]) -> str:
    if count == 0:
        return "none: unconditional"
    listed = ", ".join(names[:_NAMED_CLASSES]) + (", …" if len(names) > _NAMED_CLASSES else "")
    return f"{count}: {listed}" if names else str(count)


def _stack(depth: int, width: int, heads: int) -> str:
    return f"{depth} blocks of width {width}, {heads} heads"


def _size(numbers: Any) -> str:
    return "×".join(map(str, numbers if isinstance(numbers, list | tuple) else [numbers] * 2))


def _value(value: Any) -> str:
    return " and ".join(map(str, value)) if isinstance(value, list | tuple) else f"{value}"
