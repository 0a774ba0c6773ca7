"""What an autoencoder of RAEv2 has and formats of RAE's first version cannot hold."""

from unirae.core.errors import ConfigError
from unirae.models.rae import RAE

DEBLOCKING = "a correction across the borders of patches (deblocking)"


def check_fits_rae_v1(rae: RAE, program: str) -> None:
    """Refuse an autoencoder that a format without RAEv2's switches would turn into another one.

    Args:
        program: whose format it is, for the error.

    Raises:
        ConfigError: If the encoder combines blocks or has another norm than the plain one, or the decoder gives RGB or
            corrects its pixels.
    """
    identity, beyond = rae.encoder.identity_without_hash, []
    if identity.layers is not None:
        beyond.append(f"a combination of blocks (layers={list(identity.layers)})")
    if identity.norm_affine:
        beyond.append("the affine part of the encoder's final norm (norm_affine=true)")
    if not identity.final_norm:
        beyond.append("an encoder without its final norm (final_norm=false)")
    if rae.decoder.output == "unit":
        beyond.append("a decoder that gives RGB instead of the encoder's pixels (output=unit)")
    if rae.decoder.corrects:
        beyond.append(DEBLOCKING)
    if beyond:
        raise ConfigError(f"{program} cannot hold {', nor '.join(beyond)}; its models would be other ones")
