"""What the Hugging Face hub answers, in one line that says what to do."""

from collections.abc import Iterator

_REFUSED = (401, 403)


def hub_problem(error: BaseException, repository: str) -> str:
    """The cause behind an error of huggingface_hub, transformers or timm, as one line.

    Gated models are what users stumble over: the hub's own words go over many lines and transformers' hide them.
    """
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError

    chain = list(_causes(error))
    if any(isinstance(cause, GatedRepoError) for cause in chain):
        return gated(repository)
    if any(isinstance(cause, RepositoryNotFoundError) for cause in chain):
        return (
            f"the hub shows no {repository}: check the name; if it is private, log in with `hf auth login` or set "
            "HF_TOKEN to a token that may read it"
        )
    if any(isinstance(c, HfHubHTTPError) and _status(c) in _REFUSED for c in chain):
        return gated(repository)
    return first_line(error)


def first_line(error: BaseException) -> str:
    """The first line of an error's own words, or its name where it has none."""
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__


def gated(repository: str) -> str:
    """What to do about a model whose licence must be accepted first."""
    return (
        f"{repository} is gated: its publisher wants its licence accepted. Accept it on the model's page, "
        f"https://huggingface.co/{repository}, then log in with `hf auth login` or set HF_TOKEN; or fetch it where "
        "that is done and give the folder"
    )


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def _status(error: BaseException) -> int | None:
    return getattr(getattr(error, "response", None), "status_code", None)
