"""A request to stop is not lost, wherever Python happens to be when it comes."""

import os
import signal
import sys
import time

import pytest

from unirae.core import stopping


class Dies:
    def __del__(self) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.01)  # the handler runs here, and what it raises is dropped


def wait_to_be_interrupted() -> None:
    for _ in range(200):
        time.sleep(0.01)
    pytest.fail("nobody was interrupted")


def drop_one() -> None:
    with stopping.listening():
        dies = Dies()
        del dies
        wait_to_be_interrupted()


def drop_one_around_a_fork() -> None:
    state = [True]
    os.register_at_fork(after_in_parent=lambda: state.pop() and Dies() if state else None)
    with stopping.listening():
        child = os.fork()
        if child == 0:
            os._exit(0)
        try:
            wait_to_be_interrupted()
        finally:
            os.waitpid(child, 0)


@pytest.mark.parametrize("drop", [drop_one, drop_one_around_a_fork])
def test_a_request_that_is_dropped_is_made_again(drop):
    hook = sys.unraisablehook
    with pytest.raises(KeyboardInterrupt):
        drop()
    assert sys.unraisablehook is hook
    assert not stopping.requested()


def test_other_dropped_exceptions_are_reported_as_ever(monkeypatch):
    class Broken:
        def __del__(self) -> None:
            raise ValueError("broken")

    said = []
    monkeypatch.setattr(sys, "unraisablehook", lambda dropped: said.append(str(dropped.exc_value)))
    with stopping.listening():
        broken = Broken()
        del broken
    assert said == ["broken"]
