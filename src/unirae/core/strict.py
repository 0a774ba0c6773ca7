"""Loading tensors into a module strictly: every key, every shape, or an error that names what differs."""

from torch import Tensor, nn

from unirae.core.errors import WeightsError


def load_strictly(module: nn.Module, state: dict[str, Tensor], *, what: str) -> None:
    """Copy ``state`` into ``module``.

    Args:
        what: what is loaded, for the message ("decoder").

    Raises:
        WeightsError: If keys are missing or unexpected, or shapes differ; nothing was copied then.
    """
    check_fit(state, module.state_dict(), what=what)
    module.load_state_dict(state)


def check_fit(state: dict[str, Tensor], expected: dict[str, Tensor], *, what: str) -> None:
    """Compare names and shapes of tensors with the expected ones.

    Args:
        what: what is to be loaded, for the message.

    Raises:
        WeightsError: If keys are missing or unexpected, or shapes differ.
    """
    raise_on_differences(
        what,
        missing=expected.keys() - state.keys(),
        unexpected=state.keys() - expected.keys(),
        mismatched={
            f"{name} {tuple(state[name].shape)} instead of {tuple(expected[name].shape)}"
            for name in expected.keys() & state.keys()
            if state[name].shape != expected[name].shape
        },
    )


def raise_on_differences(what: str, *, missing: set[str], unexpected: set[str], mismatched: set[str]) -> None:
    """Raise a WeightsError where any of the sets holds something."""
    differences = [
        f"{len(names)} {label} ({_some(names)})"
        for label, names in (
            ("missing", missing),
            ("unexpected", unexpected),
            ("of another shape", mismatched),
        )
        if names
    ]
    if differences:
        raise WeightsError(f"the weights do not fit the {what}: {'; '.join(differences)}")


def _some(names: set[str], limit: int = 3) -> str:
    shown = sorted(names)[:limit]
    return ", ".join(shown) + (", …" if len(names) > limit else "")
