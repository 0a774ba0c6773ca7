"""The Hugging Face hub as this command uses it: the files of a model, and a copy of some of them."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from unirae.core.errors import WeightsError
from unirae.core.hub import hub_asked_once, hub_problem
from unirae.core.io import file_sha256

_ALWAYS = re.compile(r"(config|preprocessor_config)\.json|README\.md|LICEN[CS]E.*")
_VOCABULARY = re.compile(r"tokenizer\.(json|model)|vocab\.(json|txt)|spiece\.model|sentencepiece\.bpe\.model")
_OF_TOKENIZER = re.compile(r"tokenizer_config\.json|merges\.txt|(special_tokens_map|added_tokens)\.json")
_WEIGHTS = (
    re.compile(r"model\.safetensors"),
    re.compile(r"model(-\d+-of-\d+\.safetensors|\.safetensors\.index\.json)"),
    re.compile(r"pytorch_model\.bin"),
    re.compile(r"pytorch_model(-\d+-of-\d+\.bin|\.bin\.index\.json)"),
    re.compile(r"open_clip_(model|pytorch_model)\.safetensors"),
)
"""Names of weight files in the order in which transformers and timm look; the first that a model has is enough."""


@dataclass(frozen=True, kw_only=True)
class File:
    """A file of a model or of a weights folder: its path, its bytes, and its SHA-256 or the beginning of that, if
    known."""

    path: str
    size: int | None
    sha256: str | None

    def has_size(self, folder: Path) -> bool:
        """True where the file is in ``folder`` with the known size; the file is not read."""
        path = folder / self.path
        return path.is_file() and self.size in (None, path.stat().st_size)

    def is_whole(self, folder: Path) -> bool:
        """True where the file is in ``folder`` with the known size and SHA-256."""
        if self.sha256 is None or not self.has_size(folder):
            return self.has_size(folder)
        return file_sha256(folder / self.path).startswith(self.sha256)


@dataclass(frozen=True, kw_only=True)
class Listing:
    """The files of a model that an encoder is loaded from, at one revision."""

    files: tuple[File, ...]
    revision: str | None
    licence: str | None

    @property
    def size(self) -> int | None:
        """Bytes of all files together, if the hub states every size."""
        sizes = [file.size for file in self.files]
        return None if None in sizes else sum(size for size in sizes if size is not None)


class HuggingFaceHub:
    """The hub through ``huggingface_hub``, which knows tokens, mirrors (HF_ENDPOINT) and proxies."""

    def listing(self, repository: str, *, tokenizer: bool = False) -> Listing:
        """A model's files as they are published now.

        Args:
            tokenizer: those of its tokenizer, too.

        Raises:
            WeightsError: If the model does not exist or is gated, or if the hub does not answer.
        """
        from huggingface_hub import HfApi

        with hub_asked_once():
            try:
                info = HfApi().model_info(repository, files_metadata=True, timeout=20)
            except _failures() as error:
                raise _refused(error, repository) from None
        siblings = {file.rfilename: file for file in info.siblings or []}
        files = [
            File(path=name, size=siblings[name].size, sha256=getattr(siblings[name].lfs, "sha256", None))
            for name in choose(list(siblings), repository, tokenizer=tokenizer)
        ]
        return Listing(
            files=tuple(files), revision=info.sha, licence=getattr(info.card_data, "license", None)
        )

    def fetch(self, repository: str, listing: Listing, folder: Path) -> None:
        """Copy the listed files into ``folder``, continuing what an earlier call left there.

        Raises:
            WeightsError: If the model is gated, the hub does not answer, or the disk is full.
        """
        from huggingface_hub import snapshot_download

        wanted = [file.path for file in listing.files]
        try:
            snapshot_download(repository, revision=listing.revision, allow_patterns=wanted, local_dir=folder)
        except _failures() as error:
            raise _refused(error, repository) from None


def _refused(error: Exception, repository: str) -> WeightsError:
    problem = hub_problem(error, repository)
    return WeightsError(problem if repository in problem else f"{repository}: {problem}")


def _failures() -> tuple[type[Exception], ...]:
    """The client's errors for a refusal, a hub that is away or a full disk, which do not share a base."""
    from huggingface_hub.errors import XetDownloadError
    from huggingface_hub.utils import httpx

    return OSError, ValueError, RuntimeError, httpx.HTTPError, XetDownloadError


def choose(names: list[str], repository: str, *, tokenizer: bool = False) -> list[str]:
    """The files that an encoder is loaded from, out of all that a model's page holds.

    Args:
        tokenizer: those of its tokenizer, too.

    Raises:
        WeightsError: If no file holds weights that transformers or timm read, or the vocabulary of a tokenizer.
    """
    beside = [_ALWAYS, _VOCABULARY, _OF_TOKENIZER] if tokenizer else [_ALWAYS]
    if tokenizer and not has_vocabulary(names):
        raise WeightsError(
            f"{repository} has no tokenizer (tokenizer.json, or the files of its vocabulary); its files: "
            f"{', '.join(sorted(names)[:8])}"
        )
    for pattern in _WEIGHTS:
        weights = [name for name in names if pattern.fullmatch(name)]
        if weights:
            return sorted({*weights, *(name for name in names if any(p.fullmatch(name) for p in beside))})
    raise WeightsError(
        f"{repository} has no weights that transformers or timm read (model.safetensors, pytorch_model.bin); its "
        f"files: {', '.join(sorted(names)[:8])}"
    )


def has_vocabulary(names: Iterable[str]) -> bool:
    """Say whether the vocabulary of a tokenizer is among a model's files."""
    return any(_VOCABULARY.fullmatch(name) for name in names)
