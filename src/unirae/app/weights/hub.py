"""The Hugging Face hub as this command uses it: which files a model has, and a copy of some of them."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from unirae.core.errors import WeightsError
from unirae.core.hub import hub_asked_once, hub_problem

_ALWAYS = re.compile(r"(config|preprocessor_config)\.json|README\.md|LICEN[CS]E.*")
_WEIGHTS = (
    re.compile(r"model\.safetensors"),
    re.compile(r"model(-\d+-of-\d+\.safetensors|\.safetensors\.index\.json)"),
    re.compile(r"pytorch_model\.bin"),
    re.compile(r"pytorch_model(-\d+-of-\d+\.bin|\.bin\.index\.json)"),
    re.compile(r"open_clip_(model|pytorch_model)\.safetensors"),
)
"""In the order in which transformers and timm look; the first that a model has is enough."""


@dataclass(frozen=True, kw_only=True)
class RemoteFile:
    """A file of a model; size in bytes and SHA-256 where the hub says them."""

    name: str
    size: int | None
    sha256: str | None


@dataclass(frozen=True, kw_only=True)
class Listing:
    """The files of a model that an encoder is loaded from, at one revision."""

    files: tuple[RemoteFile, ...]
    revision: str | None
    licence: str | None

    @property
    def size(self) -> int | None:
        """Bytes of all of them, if the hub says all of them."""
        sizes = [file.size for file in self.files]
        return None if None in sizes else sum(size for size in sizes if size is not None)


class Hub(Protocol):
    """The transport; tests bring their own."""

    def listing(self, repository: str) -> Listing:
        """What there is.

        Raises:
            WeightsError: no such model, gated, or nobody answers.
        """
        ...

    def fetch(self, repository: str, listing: Listing, folder: Path) -> None:
        """Copy the listed files into ``folder``, continuing what an earlier call left there.

        Raises:
            WeightsError: as above, or the disk is full.
        """
        ...


class HuggingFaceHub:
    """The hub itself, through ``huggingface_hub``, which knows tokens, mirrors (HF_ENDPOINT) and proxies."""

    def listing(self, repository: str) -> Listing:
        """See :class:`Hub`."""
        from huggingface_hub import HfApi

        with hub_asked_once():
            try:
                info = HfApi().model_info(repository, files_metadata=True, timeout=20)
            except _failures() as error:
                raise _refused(error, repository) from None
        siblings = {file.rfilename: file for file in info.siblings or []}
        names = choose(list(siblings), repository)
        return Listing(
            files=tuple(
                RemoteFile(
                    name=name,
                    size=siblings[name].size,
                    sha256=lfs.sha256 if (lfs := siblings[name].lfs) is not None else None,
                )
                for name in names
            ),
            revision=info.sha,
            licence=getattr(info.card_data, "license", None),
        )

    def fetch(self, repository: str, listing: Listing, folder: Path) -> None:
        """See :class:`Hub`."""
        from huggingface_hub import snapshot_download

        try:
            snapshot_download(
                repository,
                revision=listing.revision,
                allow_patterns=[file.name for file in listing.files],
                local_dir=folder,
            )
        except _failures() as error:
            raise _refused(error, repository) from None


def _refused(error: Exception, repository: str) -> WeightsError:
    problem = hub_problem(error, repository)
    return WeightsError(problem if repository in problem else f"{repository}: {problem}")


def _failures() -> tuple[type[Exception], ...]:
    """What the client raises for a refusal, a hub that is away or a full disk; its parts do not share a base."""
    from huggingface_hub.errors import XetDownloadError
    from huggingface_hub.utils import httpx

    return OSError, ValueError, RuntimeError, httpx.HTTPError, XetDownloadError


def choose(names: list[str], repository: str) -> list[str]:
    """The files that an encoder is loaded from, out of all that a model's page holds.

    Raises:
        WeightsError: none of them holds weights that transformers or timm read.
    """
    for pattern in _WEIGHTS:
        weights = [name for name in names if pattern.fullmatch(name)]
        if weights:
            return sorted([*weights, *(name for name in names if _ALWAYS.fullmatch(name))])
    raise WeightsError(
        f"{repository} has no weights that transformers or timm read (model.safetensors, pytorch_model.bin); its "
        f"files: {', '.join(sorted(names)[:8])}"
    )
