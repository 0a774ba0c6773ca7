"""Licences of the encoders' published weights, which travel with a folder that holds them."""

from dataclasses import dataclass

from unirae.models.encoders.identity import EncoderIdentity

LICENCES = {
    "facebook/dinov2": "Apache-2.0",
    "google/siglip2": "Apache-2.0",
    "google/vit-base": "Apache-2.0",
    "facebook/vit-mae": "CC-BY-NC-4.0 (the original's)",
    "facebook/dinov3": "DINOv3 License (gated)",
    "facebook/EUPE": "FAIR Noncommercial Research License",
    "facebook/webssl": "CC-BY-NC-4.0",
    "facebook/ijepa": "CC-BY-NC-4.0",
    "mocov3_": "CC-BY-NC-4.0",  # no repository: the name of configs/model/encoder
    "openai/clip": "MIT (the original's)",
    "Qwen/Qwen3": "Apache-2.0",
    "sentence-transformers/all-MiniLM-L6-v2": "Apache-2.0",
}
"""Licences by the beginning of the repository's name, as in THIRD_PARTY.md."""
_UNKNOWN = "not listed here; unless you trained it yourself, see where its weights were published"
_DINOV3_NOTICE = (
    "The weights of the encoder are DINO Materials, distributed under the DINOv3 License, whose terms go with "
    "every copy of them: https://ai.meta.com/resources/models-and-libraries/dinov3-license/"
)


@dataclass(frozen=True, kw_only=True)
class Licence:
    """The licence of an encoder's weights: its name, and what must stand beside a copy of them."""

    name: str
    notice: str = ""


def licence_of_name(repository: str) -> str | None:
    """The licence of a repository on the Hugging Face hub; None where it is not listed here."""
    return next((terms for start, terms in LICENCES.items() if repository.startswith(start)), None)


def licence_in_timm(name: str) -> str | None:
    """The licence that timm records of a model of its own, by its name with the tag of the weights."""
    import timm

    published = timm.get_pretrained_cfg(name) if timm.is_model(name) else None
    return published.license if published is not None else None


def licence_of(identity: EncoderIdentity) -> Licence | None:
    """The licence of an encoder's weights; None for random ones.

    Args:
        identity: the encoder's; a folder or file without a hub's name is known by its kind, if that is one family's.
    """
    if identity.weights == "random":
        return None
    name = licence_of_name(identity.name)
    tagged = identity.kind == "timm" and "." in identity.name  # without a tag it may be of any weights
    if tagged and name is None:
        name = licence_in_timm(identity.name)
    if identity.kind == "dinov3" and name is None and "eupe" not in identity.name.lower():
        name = LICENCES["facebook/dinov3"]
    notice = _DINOV3_NOTICE if name in (LICENCES["facebook/dinov3"], "dinov3-license") else ""
    return Licence(name=name or _UNKNOWN, notice=notice)
