"""Opening what training wrote: a path is enough, because checkpoints describe themselves."""

from pathlib import Path
from typing import Any

from torch import Tensor

from unirae.core.errors import WeightsError
from unirae.core.io import load_tensors
from unirae.models.latent_stats import LatentStats
from unirae.models.rae import RAE


def find_checkpoint(path: str | Path) -> Path:
    """A checkpoint file, given itself or a run's folder (its ``checkpoints/last.ckpt``).

    Raises:
        WeightsError: there is none.
    """
    path = Path(path)
    if path.is_file():
        return path
    last = path / "checkpoints/last.ckpt"
    if last.is_file():
        return last
    if path.is_dir():
        raise WeightsError(
            f"{path} holds no checkpoints/last.ckpt: give a run's folder, or a checkpoint file"
        )
    raise WeightsError(f"no checkpoint at {path}; give a .ckpt file or the folder of a run")


def read_checkpoint(path: str | Path, *, kind: str | tuple[str, ...]) -> dict[str, Any]:
    """A checkpoint's content, after checking that it is of the wanted kind (one of them, where several will do).

    Its ``"unirae"`` entry says what it is: kind, version, commit, step, config and the model's description.

    Raises:
        WeightsError: missing, damaged, from another program, or of another kind.
    """
    file = find_checkpoint(path)
    content = load_tensors(file)
    about = content.get("unirae") if isinstance(content, dict) else None
    if about is None:
        raise WeightsError(f"{file} is not a checkpoint of unirae")
    kinds = (kind,) if isinstance(kind, str) else kind
    if about["kind"] not in kinds:
        wanted = " or ".join(map(repr, kinds))
        raise WeightsError(f"{file} is a checkpoint of kind {about['kind']!r}; a {wanted} one is needed here")
    return content


def load_rae(
    path: str | Path, *, ema: bool = True, encoder_weights: str | None = None, with_encoder: bool = True
) -> RAE:
    """The autoencoder of a stage-1 checkpoint, or the one that a stage-2 checkpoint was trained on; in eval mode.

    Args:
        path: a checkpoint file or the folder of a run. Of stage 2, the autoencoder comes with the statistics of the
            latents that the diffusion transformer makes, and is always the averaged one.
        ema: take the averaged decoder, which is what scores are reported on; False takes the raw one.
        encoder_weights: where the encoder's weights lie, if not where the checkpoint says.
        with_encoder: False leaves the encoder out, where only decoding is wanted.

    Raises:
        WeightsError: see :func:`read_checkpoint`; or the encoder is missing, or not the one it was trained with.
    """
    from unirae.models.loading_dit import rae_of_dit  # which builds upon this module

    content = read_checkpoint(path, kind=("stage1", "stage2"))
    if content["unirae"]["kind"] == "stage2":
        if not ema:
            raise WeightsError(
                f"{path} is of stage 2, which works on the averaged decoder; ema=False has none there"
            )
        return rae_of_dit(
            content, file=find_checkpoint(path), encoder_weights=encoder_weights, with_encoder=with_encoder
        )
    return rae_from_checkpoint(
        content,
        ema=ema,
        encoder_weights=encoder_weights,
        with_encoder=with_encoder,
    )


def rae_from_checkpoint(
    content: dict[str, Any],
    *,
    ema: bool = True,
    encoder_weights: str | None = None,
    with_encoder: bool = True,
) -> RAE:
    """As :func:`load_rae`, from what :func:`read_checkpoint` gave."""
    about = content["unirae"]
    stats = LatentStats(**about["latent_stats"]) if about["latent_stats"] else None
    rae = RAE.from_spec(
        about["rae"],
        _part(content["state_dict"], "ema" if ema else "decoder"),
        encoder_state=about["encoder_state"],
        stats=stats,
        encoder_weights=encoder_weights,
        with_encoder=with_encoder,
    )
    return rae.eval().requires_grad_(False)


def _part(state: dict[str, Tensor], part: str) -> dict[str, Tensor]:
    return {
        name.removeprefix(f"{part}."): value for name, value in state.items() if name.startswith(f"{part}.")
    }
