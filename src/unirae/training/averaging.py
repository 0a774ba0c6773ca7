"""Gradients averaged over processes while the backward pass still runs.

As in torch's DDP (Li et al. 2020, arXiv 2006.15704): parameters in reverse order, about the order in which a backward
pass reaches them, are put in buckets; a bucket whose gradients are all there is sent, and the pass goes on meanwhile.
Which passes of a step belong together, which is the last, and whose gradients are wanted at all, DDP has to guess from
a wrapper around one forward pass; here the update says it (docs/adr/0009-overlapping-communication.md).
"""

from collections.abc import Iterable
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from unirae.core.distributed import world_size
from unirae.core.sharding import is_sharded

BUCKET_BYTES = 25 * 2**20
"""A message's size, DDP's: large enough for the bandwidth, small enough to leave early."""


class Bucket:
    """Parameters of one type and device whose gradients are one message.

    A gradient is moved into the message as soon as it is there, while a cache still has it, and is a view of it from
    then on: it exists twice only for that moment.
    """

    def __init__(self, parameters: list[nn.Parameter]) -> None:
        self.parameters = parameters
        self._message: Tensor | None = None
        self._parts: list[Tensor] = []
        self._taken: set[int] = set()
        self._sending: Any = None

    @property
    def missing(self) -> int:
        """How many gradients are not in the message yet."""
        return len(self.parameters) - len(self._taken)

    def take(self, index: int) -> None:
        """Move the gradient of a parameter into the message, divided by the number of processes."""
        part, gradient = self._part(index), self.parameters[index].grad
        assert gradient is not None
        torch.div(gradient, world_size(), out=part)
        self.parameters[index].grad = part
        self._taken.add(index)

    def send(self) -> None:
        """Start to sum over processes, with what other passes than the last have left.

        Behind the gradients travels a 1 for each that is there: a process learns which of those that it lacks others
        have.
        """
        for index, parameter in enumerate(self.parameters):
            if index not in self._taken and parameter.grad is not None:
                self.take(index)
            elif index not in self._taken:
                self._part(index).zero_()
        there = [float(index in self._taken) for index in range(len(self.parameters))]
        assert self._message is not None
        flags = self._message[-len(there) :]
        if all(there):
            flags.fill_(1)
        else:
            flags.copy_(torch.tensor(there))
        self._sending = dist.all_reduce(self._message, op=dist.ReduceOp.SUM, async_op=True)

    def receive(self) -> None:
        """Wait for the mean. A gradient that no process has stays None."""
        assert self._message is not None
        self._sending.wait()
        if self.missing:  # only then the host looks
            flags = self._message[-len(self.parameters) :].tolist()
            for parameter, part, flag in zip(self.parameters, self._parts, flags, strict=True):
                if flag:
                    parameter.grad = part
        self.forget()

    def forget(self) -> None:
        """Let go of the message: the gradients keep it alive as long as they are wanted."""
        self._message, self._parts, self._taken, self._sending = None, [], set(), None

    def _part(self, index: int) -> Tensor:
        """The place of a gradient in the message, which the first that is there makes."""
        if self._message is None:
            sizes = [p.numel() for p in self.parameters]
            self._message = self.parameters[0].new_empty(sum(sizes) + len(sizes))
            parts = self._message[: sum(sizes)].split(sizes)
            self._parts = [part.view_as(p) for part, p in zip(parts, self.parameters, strict=True)]
        return self._parts[index]


class OverlappingAverage:
    """Averages the gradients of one optimizer's parameters; nothing to do in one process, nor where FSDP does it.

    Every process sends the same buckets in the same order, whatever order its gradients come in.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], *, bucket_bytes: int = BUCKET_BYTES) -> None:
        self.buckets: list[Bucket] = []
        self._in_last_pass, self._sent = False, 0
        parameters = list(parameters)
        if world_size() == 1 or any(map(is_sharded, parameters)):
            return
        self.buckets = [Bucket(group) for group in grouped(parameters, bucket_bytes)]
        for bucket in self.buckets:
            for index, parameter in enumerate(bucket.parameters):
                # fires once a pass, when the gradient has been added; torch.autograd.grad does not fire it
                parameter.register_post_accumulate_grad_hook(partial(self._arrived, bucket, index))

    @property
    def sent(self) -> int:
        """Number of messages that are on their way."""
        return self._sent

    def expect_last_pass(self) -> None:
        """Expect the last backward pass before :meth:`finish`: send what it completes."""
        self._in_last_pass = True
        for bucket in self.buckets:
            bucket.forget()

    def finish(self) -> None:
        """Send what is left and wait; every gradient is then the mean over processes."""
        self._in_last_pass = False
        for bucket in self.buckets[self._sent :]:
            bucket.send()
        self._sent = 0
        for bucket in self.buckets:
            bucket.receive()

    def _arrived(self, bucket: Bucket, index: int, _: nn.Parameter) -> None:
        if not self._in_last_pass:
            return
        bucket.take(index)
        while self._sent < len(self.buckets) and not self.buckets[self._sent].missing:
            self.buckets[self._sent].send()
            self._sent += 1


def grouped(parameters: Iterable[nn.Parameter], bucket_bytes: int) -> list[list[nn.Parameter]]:
    """Parameters from the last to the first, cut where a bucket is full or the type or device changes.

    A parameter larger than a bucket is one of its own.
    """
    groups: list[list[nn.Parameter]] = []
    size = 0
    for parameter in reversed(list(parameters)):
        own = parameter.numel() * parameter.element_size()
        last = groups[-1][-1] if groups else None
        same = last is not None and (last.dtype, last.device) == (parameter.dtype, parameter.device)
        if not same or size + own > bucket_bytes:
            groups.append([])
            size = 0
        groups[-1].append(parameter)
        size += own
    return groups
