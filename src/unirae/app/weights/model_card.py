"""The model card of an exported folder: the model, its data, its scores, its use."""

import re
from pathlib import Path
from typing import Any

from unirae.app.weights.card_words import (
    autoencoder_in_words,
    data_in_words,
    generator_in_words,
    optimizer_in_words,
)
from unirae.core.errors import UserError
from unirae.core.io import file_sha256, write_atomically
from unirae.core.log import get_logger
from unirae.evaluation.passes.reading import spoken_data
from unirae.evaluation.results.result_file import Result, read_result
from unirae.models.checkpoints.model_folder import WEIGHTS

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
    guidance = f", guidance {scale:g}" if scale != 1 else ", unguided"
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
