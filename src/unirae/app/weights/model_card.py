"""The model card of an exported folder: the model, its data, its scores, its use, each in words."""

import re
from pathlib import Path
from typing import Any

from unirae.core.errors import UserError
from unirae.core.io import file_sha256, write_atomically
from unirae.core.log import get_logger
from unirae.evaluation.passes.reading import last_part, spoken_data
from unirae.evaluation.results.result_file import Result, read_result
from unirae.models.checkpoints.model_folder import WEIGHTS
from unirae.models.encoders.identity import EncoderIdentity
from unirae.models.encoders.licences import licence_of

log = get_logger(__name__)

PICTURE = "samples"
"""The name of the picture in an exported folder, without its suffix."""
_OF_PICTURES = (".png", ".jpg", ".jpeg", ".webp")

_USE_RAE = """```python
import unirae

rae = unirae.load_rae(unirae.from_hub("OWNER/NAME"))  # or the folder
latents = rae.encode(images)  # RGB in [0, 1], b 3 H W
decoded = rae.decode(latents)
```"""
_USE_DIT = """```python
import unirae

folder = unirae.from_hub("OWNER/NAME")  # or the folder
dit, rae = unirae.load_dit(folder), unirae.load_rae(folder)
images = unirae.sample(dit, rae, {arguments})  # RGB in [0, 1], b 3 H W
```

`python src/sample_dit.py --checkpoint DIR` samples{settings}."""
_TITLE = {"stage1": "Representation autoencoder", "stage2": "Diffusion transformer on RAE latents"}
_ENCODERS = {
    "dinov2": "DINOv2",
    "dinov3": "DINOv3",
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
    "TarShardsSource": "tar shards of images",
}
_NAMED_CLASSES = 20
"""Most class names that a card lists."""


def write_card(
    folder: Path, about: dict[str, Any], *, run: Path, picture: str | None, license: str | None
) -> None:
    """Write ``README.md`` with the hub's header.

    Args:
        about: the description of the exported model.
        run: the checkpoint; scores are read from ``eval/`` of its run's folder.
        picture: a file in ``folder``.
        license: the licence as the hub names it; None says that none is stated.
    """
    header = ["---", f"license: {license or 'other'}", "library_name: unirae"]
    header += ["tags:", "- image-generation", "- representation-autoencoder", "---"]
    parts = ["\n".join(header), f"# {_TITLE[about['kind']]}"]
    if picture is not None:
        parts.append(f"![What the model makes]({picture})")
    parts += [_table("The model", _model(about)), _table("Training", _training(about))]
    parts += [_scores(run, about), f"## Use\n\n{_use(about)}"]
    if license is None:
        parts.append(
            "**Licence: not stated.** The encoder's licence applies to its weights and features as well."
        )
    text = "\n\n".join(part for part in parts if part) + "\n"
    write_atomically(folder / "README.md", lambda file: file.write(text.encode()))


def _use(about: dict[str, Any]) -> str:
    if about["kind"] == "stage1":
        return _USE_RAE
    said = about.get("sampling") or {}
    labelled = about["dit"]["architecture"]["num_classes"] > 0
    settings = ", ".join(f"{name} {value}" for name, value in said.items())
    return _USE_DIT.format(
        arguments="labels=[0]" if labelled else "labels=[dit.null_label]",
        settings=f" with the settings that belong to this model: {settings}" if settings else "",
    )


def newest_picture(checkpoint: Path) -> Path | None:
    """The newest picture of a checkpoint's run, or the picture of an exported folder; None without any.

    Training writes ``samples/step-NNNNNNN.png`` (the callbacks of samples). Whatever else lies beside a checkpoint
    need not show this model.
    """
    if checkpoint.name == WEIGHTS:
        beside = sorted(checkpoint.parent.glob(f"{PICTURE}.*"))
        return next((file for file in beside if file.suffix.lower() in _OF_PICTURES), None)
    folder = _run_folder(checkpoint) / "samples"
    steps = [file for file in folder.glob("step-*.png") if re.fullmatch(r"step-\d{7,}\.png", file.name)]
    return max(steps, key=lambda file: int(file.stem.removeprefix("step-")), default=None)


def _run_folder(checkpoint: Path) -> Path:
    return checkpoint.parent.parent if checkpoint.parent.name == "checkpoints" else checkpoint.parent


def _model(about: dict[str, Any]) -> dict[str, Any]:
    if about["kind"] == "stage1":
        return autoencoder_in_words(about["rae"])
    return generator_in_words(about["dit"], list(about.get("class_names") or []))


def _training(about: dict[str, Any]) -> dict[str, Any]:
    recorded = about["config"]
    rows: dict[str, Any] = {
        "data": data_in_words(recorded.get("data") or {}) or "not recorded",
        "weights": "averaged (EMA)" if about.get("exported_weights", "ema") == "ema" else "raw",
        "steps": about["step"],
        "unirae": about["version"],
        "commit": about["commit"],
    }
    model = recorded.get("model") or {}
    if "optimizer" in model:
        rows["optimizer"] = optimizer_in_words(model["optimizer"])
        rows["batch"] = (recorded.get("data") or {}).get("global_batch_size")
    if origin := about.get("origin"):
        rows["converted from"] = origin.get("program", "a recipe")
        rows |= {
            f"file: {role}": f"{f['file']} ({f['sha256'][:12]}…)"
            for role, f in origin.get("files", {}).items()
        }
    return {name: value for name, value in rows.items() if value is not None}


def _scores(checkpoint: Path, about: dict[str, Any]) -> str:
    """The scores of this very checkpoint with these weights, from ``eval/`` of its run's folder."""
    files = sorted((_run_folder(checkpoint) / "eval").glob("*.json"))
    sha256 = file_sha256(checkpoint) if files else ""
    results = [result for file in files if (result := _result(file)) and _is_of(result, sha256, about)]
    if not results:
        return "## Scores\n\nNone were recorded of these weights."
    lines = ["## Scores", "", "| score | value | images | of | compared with |", "|---|---|---|---|---|"]
    return "\n".join([*lines, *(line for result in results for line in _lines(result))])


def _result(file: Path) -> Result | None:
    try:
        return read_result(file)
    except UserError as error:
        log.warning("left out of the model card: %s", error)
        return None


def _is_of(result: Result, sha256: str, about: dict[str, Any]) -> bool:
    """True where a result is of this checkpoint, by its hash, or by its step where training itself scored."""
    said = result.images | result.sampler
    if (said.get("weights") == "raw") != (about.get("exported_weights", "ema") == "model"):
        return False
    if result.file.name == f"step-{about['step']:07d}.json" and "checkpoint_sha256" not in said:
        return said.get("step") == about["step"]
    return said.get("checkpoint_sha256") == sha256


def _lines(result: Result) -> list[str]:
    return [
        f"| {result.labels.get(name, name)} | {value:.5g} | {result.count} | {_scored(result)} | {_against(result)} |"
        for name, value in result.metrics.items()
    ]


def _scored(result: Result) -> str:
    """The scored images in words, with the settings that made them."""
    if not (sampler := result.sampler):
        return {"reconstruction": "reconstructions"}.get(result.images.get("kind", ""), "images")
    points = f", {sampler['num_steps']} points" if "num_steps" in sampler else ""
    scale = sampler.get("cfg_scale", 1)
    internal = sampler.get("ig_scale", 1)
    scales = {"guidance": scale, "internal guidance": internal}
    guidance = "".join(f", {kind} {s:g}" for kind, s in scales.items() if s != 1) or ", unguided"
    return f"samples: {sampler.get('solver', '')}{points}{guidance}"


def _against(result: Result) -> str:
    reference = result.reference
    if result.images.get("kind") == "reconstruction":
        return f"the originals, {_images_in_words(reference)}"
    if file := reference.get("file"):
        return Path(file).name
    count = reference.get("count")
    return f"{count} images: {_images_in_words(reference)}" if count else _images_in_words(reference)


def _images_in_words(reference: dict[str, Any]) -> str:
    """The name of the data, without the folder that they lay in, and the split."""
    name = spoken_data(reference)
    split = (reference.get("fingerprint") or {}).get("split")
    splits = {"train": "training", "val": "validation"}
    return f"{splits.get(split, split)} split of {name}" if split else name


def _table(title: str, rows: dict[str, Any]) -> str:
    cells = (f"| {name} | {str(value).replace('|', '&#124;')} |" for name, value in rows.items())
    return "\n".join([f"## {title}", "", "| | |", "|---|---|", *cells])


def autoencoder_in_words(spec: dict[str, Any]) -> dict[str, str]:
    """Rows of a table about ``about["rae"]``."""
    encoder, decoder = spec["encoder"], spec["decoder"]
    kind, licence = (
        _ENCODERS.get(encoder["kind"], encoder["kind"]),
        licence_of(EncoderIdentity.from_dict(encoder)),
    )
    channels, *grid = spec.get("latent_shape") or (decoder["token_dim"], *decoder["grid"])
    made = [tokens * decoder["patch_size"] for tokens in decoder["grid"]]
    return {
        "encoder": f"{encoder['name']} ({kind}){_blocks(encoder)}",
        **({} if licence is None else {"the encoder's licence": f"{licence.name} {licence.notice}".strip()}),
        "it reads": f"{_size(spec['rae']['encoder_input_size'])} px",
        "latents": f"{_size(grid)} tokens of {channels} numbers",
        "decoder": f"a ViT: {_stack(decoder['depth'], decoder['width'], decoder['num_heads'])}",
        "it makes": f"{_size(made)} px",
    }


def _blocks(encoder: dict[str, Any]) -> str:
    layers = encoder.get("layers")
    return "" if layers is None else f", {encoder['combine']} of its blocks {', '.join(map(str, layers))}"


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
    return ", ".join([{"adamw": "AdamW", "muon": "Muon"}.get(kind, str(kind)), *values])


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
