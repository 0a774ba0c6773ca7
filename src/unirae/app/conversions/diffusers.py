"""Between folders of diffusers and ours: an autoencoder, or a pipeline with a diffusion transformer."""

from pathlib import Path
from typing import Any

from unirae.app.conversions.records import model_config
from unirae.app.convert import Options
from unirae.app.shell.devices import choose_data
from unirae.core.errors import ConfigError, WeightsError
from unirae.core.io import file_sha256, write_folder
from unirae.core.log import get_logger
from unirae.core.version import __version__
from unirae.models.checkpoints.contents import dit_content, rae_content
from unirae.models.checkpoints.model_folder import write_model_folder
from unirae.models.checkpoints.opening import dit_from_checkpoint, rae_from_checkpoint, rae_of_dit
from unirae.models.checkpoints.pairing import rae_reference
from unirae.models.checkpoints.reading import open_checkpoint
from unirae.models.interop.diffusers.dit import dit_from_diffusers_pipeline, save_dit_pipeline
from unirae.models.interop.diffusers.index import read_index
from unirae.models.interop.diffusers.rae import rae_from_diffusers
from unirae.models.interop.diffusers.rae_export import save_rae_as_diffusers
from unirae.models.interop.diffusers.stats import check_same_latents

log = get_logger(__name__)


def from_diffusers(options: Options) -> None:
    """Convert an AutoencoderRAE, or a pipeline that we wrote, and write the folder.

    Raises:
        ConfigError, WeightsError: something is missing, damaged, unknown or does not fit; nothing is written then.
    """
    assert options.input is not None
    source = options.input.expanduser()
    if options.encoder_weights is not None or options.weights != "ema":
        raise ConfigError(
            "--encoder_weights and --weights do not belong to --from diffusers: its files have one of each"
        )
    pipeline = (source / "model_index.json").is_file()
    vae = source / "vae" if pipeline else source
    rae = rae_from_diffusers(vae)
    recorded = {"model": model_config(rae), "data": choose_data(options.data, None, {})}
    origin = {"program": "diffusers", "version": __version__, "files": _files(vae)}
    rae_made = rae_content(rae, config=recorded, origin=origin)
    if not pipeline:
        write_folder(options.output, lambda folder: write_model_folder(folder, rae_made))
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

    def fill(folder: Path) -> None:
        write_model_folder(folder, content)
        (folder / "rae").mkdir()
        write_model_folder(folder / "rae", rae_made)

    write_folder(options.output, fill)


def to_diffusers(options: Options) -> None:
    """Convert an autoencoder to an AutoencoderRAE, or a generator to a pipeline, and write the folder.

    Raises:
        ConfigError, WeightsError: diffusers cannot express it, or the checkpoint is damaged; nothing is written then.
    """
    assert options.checkpoint is not None
    checkpoint = open_checkpoint(options.checkpoint, kind=("stage1", "stage2"))
    about, ema = checkpoint.about, options.weights == "ema"
    if about["kind"] == "stage1":
        rae = rae_from_checkpoint(checkpoint, ema=ema, encoder_weights=options.encoder_weights)
        save_rae_as_diffusers(rae, options.output)
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
        rae_of_dit(checkpoint, rae=options.rae, encoder_weights=options.encoder_weights),
        options.output,
        class_names=about["class_names"] or None,
        defaults=_defaults(sampling),
    )


_NAMES = {
    "num_inference_steps": "num_steps",
    "guidance_scale": "cfg_scale",
    "guidance_interval": "guidance_interval",
    "time_grid": "time_grid",
}
"""Of a call of the pipeline: ours."""


def _sampling(defaults: dict[str, Any]) -> dict[str, Any] | None:
    said = {ours: defaults[theirs] for theirs, ours in _NAMES.items() if defaults.get(theirs) is not None}
    return {"solver": "euler", **said} if said else None


def _defaults(sampling: dict[str, Any]) -> dict[str, Any]:
    return {theirs: sampling[ours] for theirs, ours in _NAMES.items() if ours in sampling}


def _files(folder: Path) -> dict[str, dict[str, str]]:
    return {
        file.stem: {"file": file.name, "sha256": file_sha256(file)}
        for file in sorted(folder.glob("*.safetensors"))
    }
