"""The texts of a run that is conditioned on them: the text encoder, and its tokens in the cache beside the latents."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import lightning.pytorch as pl

from unirae.app.run.builders import Config
from unirae.app.run.latents import join_processes
from unirae.app.shell.devices import progress_bar
from unirae.core.distributed import on_main
from unirae.core.errors import WeightsError
from unirae.core.log import get_logger
from unirae.data.source import Source
from unirae.data.text_cache import TextCache, TokensOfCaptions
from unirae.evaluation.latents.text_writing import ensure_texts, known_identity, open_text_cache
from unirae.models.checkpoints.reading import Checkpoint
from unirae.models.denoisers.condition import Condition
from unirae.models.text.build import load_text_encoder
from unirae.models.text.encoder import TextEncoder, without_filling
from unirae.models.text.identity import TextEncoderIdentity

log = get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class Texts:
    """Texts as a run reads them: by an encoder in every step, or out of a cache.

    Attributes:
        identity: of the text encoder.
        encoder: None where the cache has all tokens.
        cached: the cache; None where there is none.
    """

    identity: TextEncoderIdentity
    encoder: TextEncoder | None = None
    cached: "CachedTexts | None" = None

    def encode(self, texts: Sequence[str]) -> Condition:
        """The tokens of texts."""
        if self.cached is not None:
            return self.cached(texts)
        assert self.encoder is not None
        return self.encoder.encode(texts)

    @property
    def collate(self) -> TokensOfCaptions | None:
        """What makes a batch of samples with captions; None where these stay words."""
        return None if self.cached is None else TokensOfCaptions(self.cached.cache)


class CachedTexts:
    """The tokens of texts out of a cache, in place of the encoder."""

    def __init__(self, cache: TextCache) -> None:
        self.cache = cache

    def __call__(self, texts: Sequence[str]) -> Condition:
        """The tokens of texts, in float32 on the CPU."""
        tokens, mask = self.cache.padded(texts)
        return Condition(tokens=tokens, mask=mask)


def reads_text(cfg: Config) -> bool:
    """True where ``model.text_encoder.name`` makes the run one that is conditioned on text."""
    return cfg["model"]["text_encoder"]["name"] is not None


def open_texts(cfg: Config, trainer: pl.Trainer, checkpoint: Checkpoint | None, *sources: Source) -> Texts:
    """The texts of a run; where latents are cached, their tokens are, too, and made now if they are not there yet.

    Args:
        checkpoint: the checkpoint that the run continues.
        sources: of all pictures whose captions the run will read.

    Raises:
        WeightsError: If the text encoder is missing or damaged, or the run that is continued had another one.
    """
    node, folder = cfg["model"]["text_encoder"], cfg["data"]["latent_cache"]
    asked = {"name": node["name"], "max_length": node["max_length"], "layer": node["layer"]}
    device = trainer.strategy.root_device

    def load() -> TextEncoder:
        return load_text_encoder(**asked)

    if folder is None:
        encoder = load()
        _check_continued(checkpoint, encoder.identity)
        return Texts(identity=encoder.identity, encoder=encoder.to(device))
    dtype = cfg["data"]["latent_cache_dtype"]
    join_processes(trainer)
    identity = on_main(lambda: known_identity(folder, **asked, dtype=dtype))
    encoder = None if identity is not None else load()
    identity = identity or encoder.identity  # pyright: ignore[reportOptionalMemberAccess]
    _check_continued(checkpoint, identity)
    cache = open_text_cache(folder, identity, dtype=dtype)
    with progress_bar("text cache", rate="texts/s") as progress:
        ensure_texts(
            cache,
            _captions(*sources),
            identity=identity,
            open_encoder=lambda: (encoder or load()).to(device),
            dtype=dtype,
            progress=progress,
        )
    log.info("texts: from the cache in %s", cache.folder)
    return Texts(identity=identity, cached=CachedTexts(cache))


def _captions(*sources: Source) -> Iterator[str]:
    """All captions of all pictures, and the null prompt."""
    yield ""
    for source in sources:
        for index in range(len(source)):
            yield from source.captions_of(index)


def _check_continued(checkpoint: Checkpoint | None, identity: TextEncoderIdentity) -> None:
    if checkpoint is None:
        return
    said: dict[str, Any] = checkpoint.about["dit"]["text_encoder"]  # the stage has refused others
    if different := TextEncoderIdentity.from_dict(said).differences(identity):
        raise WeightsError(
            f"{checkpoint.file} was trained with another text encoder than the one that this run opens "
            f"({'; '.join(different)}): give back the old one, or start anew"
        )


def null_text(texts: Texts) -> Condition:
    """The tokens of "", one sample on the CPU, without filling."""
    return without_filling(texts.encode([""]))
