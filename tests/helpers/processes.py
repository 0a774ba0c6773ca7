"""Two processes that form a gloo group, as torchrun would start them, at the price of a fork.

Behind each is a server, an interpreter of its own (so that an order that depends on hashes or addresses differs between
the two), which has made the slow imports and waits for the whole session. What runs is a fork of it: nothing that a
test does to its process is left to the next one.
"""

import atexit
import importlib
import multiprocessing
import os
import pickle
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection, wait
from typing import Any

import pytest
import torch.distributed as dist

from threads_at_exit import running_threads
from unirae.core.distributed import leave_group, prepare_group

PRELOADED = ("live", "tiny_training", "tiny_checkpoint", "unirae.app.train", "unirae.app.run.assembly")
_ANSWERED = 17
"""The exit status of a fork that has sent its result; 0 could be anybody's."""
_servers: list[tuple[Any, Connection]] = []


def run_in_processes(function: Callable[..., Any], *args: Any) -> list[Any]:
    """``function(*args)`` in each of two processes of one group; its results in the order of ranks.

    ``function`` is a module-level one; arguments and results can be pickled.
    """
    return _run(_in_group, function, args)


def command_in_processes(name: str, *words: Any) -> None:
    """A command in two processes, as ``torchrun src/NAME.py WORDS`` runs it: it forms the group itself."""
    _run(_command, name, [str(word) for word in words])


def _in_group(function: Callable[..., Any], args: tuple[Any, ...]) -> Any:
    prepare_group()
    dist.init_process_group("gloo")
    result = function(*args)
    leave_group()
    return result


def _command(name: str, words: list[str]) -> None:
    sys.argv = [f"{name}.py", *words]
    status = importlib.import_module(f"unirae.app.{name}").main()
    assert not status, f"exit status {status}"


def _run(*call: Any) -> list[Any]:
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    shared = {
        "WORLD_SIZE": "2",
        "LOCAL_WORLD_SIZE": "2",
        "GROUP_RANK": "0",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(store.port),
        "TORCHELASTIC_RUN_ID": "test",  # Lightning then knows that the processes are there already
        "TORCHELASTIC_USE_AGENT_STORE": "True",  # the store is here, at a port that was free
        "TORCHELASTIC_RESTART_COUNT": "0",
    }
    job = pickle.dumps(call)
    try:
        for rank, (_, connection) in enumerate(_two_servers()):
            environment = {**os.environ, **shared, "RANK": str(rank), "LOCAL_RANK": str(rank)}
            connection.send((sys.path, os.getcwd(), environment, job))
        return _results()
    except BaseException:  # also the end of pytest's patience: one may wait for the other for ever
        _end_servers()
        raise


def _results() -> list[Any]:
    waiting = {connection: rank for rank, (_, connection) in enumerate(_servers)}
    results: dict[int, Any] = {}
    while waiting:
        for connection in wait(list(waiting)):
            assert isinstance(connection, Connection)
            rank = waiting.pop(connection)
            try:
                results[rank], failure = pickle.loads(connection.recv_bytes())
            except EOFError:
                failure = "it died"
            if failure:
                pytest.fail(f"process {rank}: {failure}")
    return [results[rank] for rank in sorted(results)]


def _two_servers() -> list[tuple[Any, Connection]]:
    context = multiprocessing.get_context("spawn")
    while len(_servers) < 2:
        ours, theirs = context.Pipe()
        process = context.Process(target=_serve, args=(theirs,))
        process.start()
        theirs.close()
        if not _servers:
            atexit.register(_end_servers)
        _servers.append((process, ours))
    return _servers


def _end_servers() -> None:
    atexit.unregister(_end_servers)
    while _servers:
        process, connection = _servers.pop()
        connection.close()
        os.killpg(process.pid, signal.SIGKILL)
        process.join()


def _serve(connection: Connection) -> None:
    os.setsid()  # with the forks, to be ended together
    for name in PRELOADED:
        importlib.import_module(name)
    while True:
        try:
            job = connection.recv()
        except EOFError:  # the session is over
            return
        if not (pid := os.fork()):
            _in_fork(connection, *job)
        if os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) != _ANSWERED:
            return  # which is seen at the other end


def _in_fork(
    connection: Connection, path: list[str], folder: str, environment: dict[str, str], job: bytes
) -> None:
    sys.path[:] = path
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    with tempfile.TemporaryFile() as output:
        os.dup2(output.fileno(), 1)
        os.dup2(output.fileno(), 2)
        result, failure = None, ""
        try:
            function, *args = pickle.loads(job)
            result = function(*args)
            # threads of gloo's may abort a process at its end
            assert not [name for name in running_threads() if "gloo" in name]
        except BaseException:
            sys.stderr.flush()
            output.seek(0)
            failure = f"{traceback.format_exc()}\n{output.read().decode(errors='replace')[-3000:]}"
        connection.send_bytes(pickle.dumps((result, failure)))
    os._exit(_ANSWERED)
