"""Stand-ins for the compiler behind torch.compile."""

from functools import partial

import pytest
import torch


def only_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    """The compiler's front end alone, which refuses breaks and too many graphs; no C++ compiler is asked for."""
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager", fullgraph=True))


def without_compiler(monkeypatch: pytest.MonkeyPatch, where: str) -> list[torch.device]:
    """The devices for which someone asks ``where`` whether the compiler works; it does not."""
    devices: list[torch.device] = []

    def problem(device: torch.device) -> str:
        devices.append(device)
        return "no C++ compiler"

    monkeypatch.setattr(where, problem)
    return devices
