"""Opening of training's checkpoints: a path is enough, because they describe themselves."""

from pathlib import Path

from unirae.core.arguments import argument
from unirae.core.errors import WeightsError
from unirae.models.checkpoints.making import random_rae
from unirae.models.checkpoints.model_folder import part
from unirae.models.checkpoints.pairing import autoencoder_differences
from unirae.models.checkpoints.reading import Checkpoint, open_checkpoint
from unirae.models.denoisers.base import Denoiser
from unirae.models.denoisers.build import denoiser_from_description
from unirae.models.latent_stats import LatentStats
from unirae.models.rae import RAE


def load_rae(
    path: str | Path | Checkpoint,
    *,
    ema: bool = True,
    encoder_weights: str | None = None,
    with_encoder: bool = True,
) -> RAE:
    """The autoencoder of a stage-1 checkpoint, or the one that a stage-2 checkpoint was trained on; in eval mode.

    Args:
        path: a checkpoint file, the folder of a run, or a checkpoint that is open. Of stage 2, the autoencoder comes
            with the statistics of the latents that the diffusion transformer makes, and is always the averaged one.
        ema: take the averaged decoder, which is what scores are reported on; False takes the raw one.
        encoder_weights: where the encoder's weights lie, if not where the checkpoint says.
        with_encoder: False leaves the encoder out, where only decoding is wanted.

    Raises:
        WeightsError: As of :func:`~unirae.models.checkpoints.reading.open_checkpoint`; or if the encoder is
            missing, or not the one that the decoder was trained with.
    """
    checkpoint = path if isinstance(path, Checkpoint) else open_checkpoint(path, kind=("stage1", "stage2"))
    if checkpoint.kind == "stage2":
        if not ema:
            raise WeightsError(
                f"{checkpoint.file} is of stage 2, which works on the averaged decoder; ema=False has none there"
            )
        return rae_of_dit(checkpoint, encoder_weights=encoder_weights, with_encoder=with_encoder)
    return rae_from_checkpoint(
        checkpoint, ema=ema, encoder_weights=encoder_weights, with_encoder=with_encoder
    )


def rae_from_checkpoint(
    checkpoint: Checkpoint,
    *,
    ema: bool = True,
    encoder_weights: str | None = None,
    with_encoder: bool = True,
) -> RAE:
    """Open an autoencoder as :func:`load_rae` does, from a checkpoint of stage 1 that is open."""
    about = checkpoint.about
    with checkpoint.named():
        rae = RAE.from_spec(
            about["rae"],
            checkpoint.weights("ema" if ema else "decoder"),
            encoder_state=about["encoder_state"],
            stats=LatentStats(**about["latent_stats"]) if about["latent_stats"] else None,
            encoder_weights=encoder_weights,
            with_encoder=with_encoder,
        )
    return rae.eval().requires_grad_(False)


def load_dit(path: str | Path, *, ema: bool = True, ema_decay: float | None = None) -> Denoiser:
    """The diffusion transformer of a stage-2 checkpoint, in eval mode on the CPU, with its latents' statistics.

    Args:
        path: a checkpoint file or the folder of a run.
        ema: take the averaged weights; False takes the raw ones.
        ema_decay: which average, where several were kept; None takes the main one.

    Raises:
        WeightsError: As of :func:`~unirae.models.checkpoints.reading.open_checkpoint`; or if there is no
            average of that decay.
    """
    return dit_from_checkpoint(open_checkpoint(path, kind="stage2"), ema=ema, ema_decay=ema_decay)


def dit_from_checkpoint(
    checkpoint: Checkpoint, *, ema: bool = True, ema_decay: float | None = None
) -> Denoiser:
    """Open a denoiser as :func:`load_dit` does, from a checkpoint of stage 2 that is open."""
    about = checkpoint.about
    with checkpoint.named():
        state = checkpoint.weights(_average(about["ema"], ema_decay) if ema else "dit")
        denoiser = denoiser_from_description(about["dit"], state, stats_info=about["latent_stats_info"])
    return denoiser.eval().requires_grad_(False)


def _average(kept: dict[str, float], decay: float | None) -> str:
    if decay is None:
        return "ema"
    for name, kept_decay in kept.items():
        if kept_decay == decay:
            return name
    raise WeightsError(
        f"ema_decay={decay}: the checkpoint holds averages of decay {', '.join(map(str, kept.values()))}"
    )


def rae_of_dit(
    checkpoint: Checkpoint,
    *,
    rae: str | Path | None = None,
    encoder_weights: str | None = None,
    with_encoder: bool = True,
) -> RAE:
    """The autoencoder that a stage-2 checkpoint was trained on, with the statistics of its latents.

    Args:
        checkpoint: of stage 2; the autoencoder's path is relative to its file.
        rae: where the autoencoder lies now, if not where the checkpoint says.
        encoder_weights: where its encoder's weights lie, if not where its checkpoint says.
        with_encoder: False leaves the encoder out, where only decoding is wanted.

    Raises:
        WeightsError: If the autoencoder is missing, or not the one that the checkpoint was trained on.
    """
    reference, file = checkpoint.about["rae"], checkpoint.file
    if rae is None and reference["path"] is None:
        with checkpoint.named():
            found, where = random_rae(**reference["recipe"]), "its recipe"
    else:
        where = str(rae) if rae is not None else str((file.parent / reference["path"]).resolve())
        try:
            found = rae_from_checkpoint(
                open_checkpoint(where, kind="stage1"),
                encoder_weights=encoder_weights,
                with_encoder=with_encoder,
            )
        except WeightsError as error:
            raise WeightsError(
                f"the autoencoder of {file}: {error}. Say where it is with {argument('rae', 'PATH')}"
            ) from None
    if different := autoencoder_differences(checkpoint.about, found):
        raise WeightsError(
            f"the autoencoder at {where} is not the one that {file} was trained on: {'; '.join(different)}. "
            f"Give that one with {argument('rae', 'PATH')}"
        )
    with checkpoint.named():
        kept = part(checkpoint.weights("ema"), "latent_stats")
        stats = LatentStats(**kept, info=checkpoint.about["latent_stats_info"])
    return found.with_stats(stats)
