"""Identity of a text encoder, in a form that a checkpoint can carry, and the part of it that decides its tokens."""

import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from unirae.core.differences import differences, shortened
from unirae.core.errors import WeightsError

_NAMES_AND_PLACES = ("name", "source")
_FROM_HUB = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")


def is_hub_name(name: str) -> bool:
    """Say whether a name is ``owner/name`` on the Hugging Face hub, and not a folder that is here."""
    return _FROM_HUB.fullmatch(name) is not None and not Path(name).exists()


@dataclass(frozen=True, kw_only=True)
class TextEncoderIdentity:
    """Enough to find the same text encoder again, and to notice when it is another one.

    Attributes:
        name: as the user gave it: a hub's name, or a folder.
        source: where it was read from: a hub's name, or an absolute path.
        model_type: the family, in transformers' words.
        sha256: of the model's tensors, in float32.
        tokenizer_sha256: of its vocabulary and of what it makes of a few texts.
        max_length: the number of tokens that longer texts are cut to.
        layer: which of the hidden states in transformers' list, from 0, the embeddings, or from the end; None is the
            last one after the final norm.
        width: of a token.
    """

    name: str
    source: str
    model_type: str
    sha256: str
    tokenizer_sha256: str
    max_length: int
    layer: int | None
    width: int

    @property
    def hub_name(self) -> str | None:
        """The name on the hub, also where it was read from a folder; None where only a folder is known."""
        name, source = Path(self.name), Path(self.source)
        given_as_folder = name.parts == source.parts[-len(name.parts) :] and self.name != self.source
        return self.name if _FROM_HUB.fullmatch(self.name) and not given_as_folder else None

    def decisive(self) -> dict[str, Any]:
        """The part on which the tokens of a text depend; caches and checkpoints compare it."""
        return {key: value for key, value in asdict(self).items() if key not in _NAMES_AND_PLACES}

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> "TextEncoderIdentity":
        """Build an identity from the dictionary of :meth:`to_dict`.

        Raises:
            WeightsError: If it is no such dictionary.
        """
        try:
            return cls(**content)
        except TypeError as error:
            raise WeightsError(f"this is no text encoder's identity of unirae: {error}") from None

    def differences(self, other: "TextEncoderIdentity") -> list[str]:
        """In what the tokens of another text encoder are made otherwise, in words; empty where they are not."""
        return [
            f"{d.name} {shortened(d.first, 24)} recorded, {shortened(d.second, 24)} found"
            for d in differences(self.decisive(), other.decisive())
        ]
