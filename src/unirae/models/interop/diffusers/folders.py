"""Between folders of diffusers and ours: an autoencoder, or a pipeline with a diffusion transformer."""

from pathlib import Path
from typing import Any

from unirae.core.errors import ConfigError, WeightsError
from unirae.core.io import file_sha256, write_folder
from unirae.core.log import get_logger
from unirae.core.version import __version__
from unirae.models.checkpoints.making import dit_content, model_config, rae_content
from unirae.models.checkpoints.model_folder import write_model_folder
from unirae.models.checkpoints.opening import dit_from_checkpoint, rae_from_checkpoint, rae_of_dit
from unirae.models.checkpoints.pairing import rae_reference
from unirae.models.checkpoints.reading import Checkpoint
from unirae.models.interop.diffusers.dit import (
    SETTINGS,
    dit_from_diffusers_pipeline,
    read_index,
    save_dit_pipeline,
)
from unirae.models.interop.diffusers.rae import rae_from_diffusers
from unirae.models.interop.diffusers.rae_export import save_rae_as_diffusers
from unirae.models.interop.diffusers.stats import check_same_latents

log = get_logger(__name__)


def from_diffusers(source: Path, output: Path, *, data: dict[str, Any]) -> None:
    """Convert an AutoencoderRAE, or a pipeline that we wrote, and write it as a folder of ours.

    Args:
        source: the folder that ``save_pretrained`` wrote.
        output: the folder to write; it must not exist yet.
        data: the configuration of the data that the model was trained on.

    Raises:
        ConfigError, WeightsError: If something is missing, damaged, unknown or does not fit; nothing is written then.
    """
    source = source.expanduser()
    pipeline = (source / "model_index.json").is_file()
    vae = source / "vae" if pipeline else source
    rae = rae_from_diffusers(vae)
    recorded = {"model": model_config(rae), "data": data}
    origin = {"program": "diffusers", "version": __version__, "files": _files(vae)}
    rae_made = rae_content(rae, config=recorded, origin=origin)
    if not pipeline:
        write_folder(output, lambda folder: write_model_folder(folder, rae_made))
        return
    denoiser = dit_from_diffusers_pipeline(source)
    if denoiser.latent_shape != rae.latent_shape:
        raise WeightsError(
            f"{source}: the transformer reads latents {denoiser.latent_shape}, the autoencoder makes {rae.latent_shape}"
        )
    check_same_latents(denoiser.latent_stats, rae.stats, what=str(source))
    index = read_index(source, num_classes=denoiser.num_classes)
    content = dit_content(
        denoiser,
        rae_reference=rae_reference(rae, path="rae"),
        class_names=index.class_names,
        config=recorded,
        origin={**origin, "files": _files(source / "transformer")},
        sampling=_sampling(index.defaults),
    )
    write_folder(output, lambda folder: write_model_folder(folder, content, {"rae": rae_made}))


def to_diffusers(
    checkpoint: Checkpoint,
    output: Path,
    *,
    ema: bool = True,
    encoder_weights: str | None = None,
    rae: Path | None = None,
) -> None:
    """Convert an autoencoder to an AutoencoderRAE, or a generator to a pipeline, and write the folder.

    Args:
        checkpoint: of stage 1 or 2.
        output: the folder to write; it must not exist yet.
        ema: take the averaged weights; False takes the raw ones.
        encoder_weights: where the encoder's weights lie, if not where the checkpoint says.
        rae: where a generator's autoencoder lies, if not where its checkpoint says.

    Raises:
        ConfigError: If diffusers cannot express the model; nothing is written then.
        WeightsError: If weights are missing, or not those that the checkpoint says.
    """
    about = checkpoint.about
    if about["kind"] == "stage1":
        save_rae_as_diffusers(
            rae_from_checkpoint(checkpoint, ema=ema, encoder_weights=encoder_weights), output
        )
        return
    sampling = about.get("sampling") or {}
    if sampling.get("guide"):
        raise ConfigError(
            "a pipeline of diffusers has one transformer, and this model is guided by another one: remove the guide "
            "from the folder's config.json (sampling.guide), and guide without label"
        )
    if sampling.get("solver", "euler") != "euler":
        log.warning(
            "a pipeline steps as euler does; this model's images were made with %s", sampling["solver"]
        )
    if not (about.get("origin") or {}).get("has_null_label", True):
        log.warning("this model has no label for none: call the pipeline with guidance_scale=1 alone")
    save_dit_pipeline(
        dit_from_checkpoint(checkpoint, ema=ema),
        rae_of_dit(checkpoint, rae=rae, encoder_weights=encoder_weights),
        output,
        class_names=about["class_names"] or None,
        defaults=_defaults(sampling),
    )


def _sampling(defaults: dict[str, Any]) -> dict[str, Any] | None:
    said = {ours: defaults[theirs] for theirs, ours in SETTINGS.items() if defaults.get(theirs) is not None}
    return {"solver": "euler", **said} if said else None


def _defaults(sampling: dict[str, Any]) -> dict[str, Any]:
    return {theirs: sampling[ours] for theirs, ours in SETTINGS.items() if ours in sampling}


def _files(folder: Path) -> dict[str, dict[str, str]]:
    return {
        file.stem: {"file": file.name, "sha256": file_sha256(file)}
        for file in sorted(folder.glob("*.safetensors"))
    }
