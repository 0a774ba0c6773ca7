"""A diffusion transformer and the autoencoder that decodes what it makes: whether they belong together."""

from unirae.core.errors import WeightsError
from unirae.models.denoisers.base import Denoiser
from unirae.models.rae import RAE


def decoder_for(dit: Denoiser, rae: RAE) -> RAE:
    """The RAE with the statistics of the latents that ``dit`` makes.

    Raises:
        WeightsError: the RAE's latents are others than the network's.
    """
    if rae.latent_shape != dit.latent_shape:
        raise WeightsError(f"the DiT makes latents {dit.latent_shape}, the RAE decodes {rae.latent_shape}")
    if rae.stats.shape is None:
        return rae.with_stats(dit.latent_stats)
    if rae.stats.sha256 != dit.latent_stats.sha256:
        raise WeightsError(
            "the RAE holds other latent statistics than the DiT was trained with; open it from the DiT's checkpoint: "
            "unirae.load_rae(DIT_CHECKPOINT)"
        )
    return rae
