"""Answers of the Hugging Face hub, or their absence, in one line that says what to do."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from unirae.core.errors import causes
from unirae.core.weights import may_ask_network

_REFUSED = (401, 403)
_PATIENCE_S = 5.0
_silence: ContextVar[str | None] = ContextVar("silence", default=None)
_answered: set[str] = set()
"""Hubs that answered in this process."""


@contextmanager
def hub_asked_once() -> Iterator[str | None]:
    """Within this block clients of a hub that does not answer look into their caches alone; yields why it does not.

    Its clients ask again and again, for 20 to 40 seconds and with a warning each time. So it is asked one short
    question before, by its own client, which knows proxies and certificates. An error inside the block is then
    explained by :func:`hub_problem`.
    """
    from huggingface_hub import constants

    silent = _why_silent(constants.ENDPOINT) if may_ask_network() else None
    token = _silence.set(silent)
    switches = [constants, sys.modules.get("datasets.config")] if silent else []
    before = [(module, module.HF_HUB_OFFLINE) for module in switches if module is not None]
    try:
        for module, _ in before:
            module.HF_HUB_OFFLINE = True
        yield silent
    finally:
        for module, value in before:
            module.HF_HUB_OFFLINE = value
        _silence.reset(token)


def _why_silent(endpoint: str) -> str | None:
    """One line where the hub does not answer within seconds; None where it says anything at all."""
    from huggingface_hub.utils import get_session, httpx

    if endpoint in _answered:
        return None
    try:
        get_session().head(endpoint, timeout=_PATIENCE_S)
    except (httpx.HTTPError, OSError) as error:
        return f"{endpoint} does not answer: {first_line(error)}"
    _answered.add(endpoint)
    return None


def hub_problem(error: BaseException, repository: str) -> str:
    """The cause behind an error of huggingface_hub, transformers or timm, as one line.

    Gated models are what users stumble over: the hub's own words go over many lines and transformers' hide them.
    """
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
    )

    chain = list(causes(error))

    def caused_by(*kinds: type[BaseException]) -> bool:
        return any(isinstance(cause, kinds) for cause in chain)

    if (silent := _silence.get()) and caused_by(OfflineModeIsEnabled, LocalEntryNotFoundError):
        return f"{repository} is not in the hub's cache here, and {silent}"
    if caused_by(RepositoryNotFoundError) and not caused_by(GatedRepoError):
        return (
            f"the hub shows no {repository}: check the name; if it is private, log in with `hf auth login` or set "
            "HF_TOKEN to a token that may read it"
        )
    answers = [cause.response for cause in chain if isinstance(cause, HfHubHTTPError)]
    refused = any(getattr(answer, "status_code", None) in _REFUSED for answer in answers)
    return gated(repository) if refused or caused_by(GatedRepoError) else first_line(error)


def first_line(error: BaseException) -> str:
    """The first line of an error's own words, or its name where it has none."""
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__


def gated(repository: str) -> str:
    """The line that says what to do about a model whose licence must be accepted first."""
    return (
        f"{repository} is gated: its publisher wants its licence accepted. Accept it on the model's page, "
        f"https://huggingface.co/{repository}, then log in with `hf auth login` or set HF_TOKEN; or fetch it where "
        "that is done and give the folder"
    )
