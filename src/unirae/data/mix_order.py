"""The order of training on a mix of sources: which source a step's batch is of, and which batch of it.

Every step takes its whole batch from one source, as RAEv2's "general" decoders do. Which one is a function of (seed,
step), and what it takes is that source's next batch in its own order (:mod:`unirae.data.order`), as if the other
sources were not there. So nothing depends on processes, micro-batches or on where a run was resumed.

Steps are dealt in blocks. With w the weights and p = w / Σw, block b of length L holds source i exactly
C_i(b + 1) − C_i(b) times, in an order that a generator of (seed, b) shuffles, where C_i(n), the steps of source i in
the first n blocks, is the difference of ⌊n·L·(p_1 + … + p_i)⌋ and ⌊n·L·(p_1 + … + p_{i−1})⌋. L is the least number for
which all L·p_i are whole: weights 1 and 3 give blocks of four steps, one and three. Where that is more than
:data:`LONGEST_BLOCK`, as of 1 and 0.33333, L is this number, and the counts are right to less than one step at the end
of every block. How often a source was drawn before a step is C_i of its block and a count within the block.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import accumulate, pairwise
from itertools import count as count_from
from math import floor, lcm

import torch
from torch.utils.data import Sampler

from unirae.core.arguments import argument
from unirae.core.errors import ConfigError
from unirae.data.order import EndlessBatches
from unirae.data.sample_key import SampleKey, derived_seed

LONGEST_BLOCK = 1000
_OF_BLOCKS = -2
"""Stands where the seeds of permutations and augmentations have a picture's number, or −1."""


@dataclass(frozen=True, kw_only=True)
class Share:
    """A source of a mix.

    Attributes:
        name: unique in the mix.
        count: its images.
        weight: its share of the steps, in proportion to the other weights.
    """

    name: str
    count: int
    weight: float


class SourceDraws:
    """The source of every step, and how many steps before took the same one.

    Args:
        weights: above 0, one per source; only their ratios count.
        seed: of the order within blocks.

    Raises:
        ConfigError: If there is no weight, or one that is not above 0.
    """

    def __init__(self, weights: Sequence[float], *, seed: int) -> None:
        if not weights or not all(0 < weight < float("inf") for weight in weights):
            raise ConfigError(
                f"{argument('mix.weights', list(weights))} must be numbers above 0, one at least"
            )
        exact = [Fraction(repr(float(weight))) for weight in weights]
        self.shares = [weight / sum(exact) for weight in exact]
        self.block_length = min(lcm(*(share.denominator for share in self.shares)), LONGEST_BLOCK)
        self._upto, self._seed = [Fraction(0), *accumulate(self.shares)], seed
        self._block: tuple[int, list[int]] | None = None

    def draw(self, step: int) -> tuple[int, int]:
        """The number of a step's source, and the number of that source's batch that the step takes."""
        block, place = divmod(step, self.block_length)
        sources = self._sources_of(block)
        source = sources[place]
        return source, self._in_blocks(block)[source] + sources[:place].count(source)

    def counts(self, steps: int) -> list[int]:
        """How many of the first ``steps`` steps take each source."""
        block, place = divmod(steps, self.block_length)
        begun = self._sources_of(block)[:place]
        return [whole + begun.count(source) for source, whole in enumerate(self._in_blocks(block))]

    def _in_blocks(self, blocks: int) -> list[int]:
        """C_i(blocks) of every source."""
        ends = [floor(blocks * self.block_length * share) for share in self._upto]
        return [end - start for start, end in pairwise(ends)]

    def _sources_of(self, block: int) -> list[int]:
        """The source of each step of a block."""
        if self._block is None or self._block[0] != block:
            before, after = self._in_blocks(block), self._in_blocks(block + 1)
            sorted_sources = [
                source
                for source, (start, end) in enumerate(zip(before, after, strict=True))
                for _ in range(end - start)
            ]
            generator = torch.Generator().manual_seed(derived_seed(self._seed, block, _OF_BLOCKS))
            shuffled = torch.randperm(self.block_length, generator=generator).tolist()
            self._block = (block, [sorted_sources[place] for place in shuffled])
        return self._block[1]


class MixedBatches(Sampler[list[SampleKey]]):
    """This process's part of every global batch of a mix from ``start_step`` on, without end.

    Images are numbered through all sources: those of the second begin behind the last of the first. A key's epoch is
    that of its source.

    Args:
        shares: the sources.
        batch_size: of the global batch, which is of one source.
        seed: of the draws, and of each source's permutations: a source's batches are those of a run on it alone.
        start_step: the first batch to give; a resumed run passes the steps that it has made.
        repeat_batches: go through this many first batches again and again (to overfit them); 0 is off.

    Raises:
        ConfigError: If a batch does not divide among the processes, or if a source does not fill one.
    """

    def __init__(
        self,
        *,
        shares: Sequence[Share],
        batch_size: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        start_step: int = 0,
        repeat_batches: int = 0,
    ) -> None:
        self.draws = SourceDraws([share.weight for share in shares], seed=seed)
        for share in shares:
            if share.count < batch_size:
                most = max(share.count // world_size * world_size, world_size)
                raise ConfigError(
                    f"{argument('loader.batch_size', batch_size)} is larger than the source {share.name} of the mix "
                    f"({share.count} images), and a step's batch is of one source. Use "
                    f"{argument('loader.batch_size', most)} or less, or leave that source out"
                )
        self._batches = [
            EndlessBatches(
                count=share.count, batch_size=batch_size, seed=seed, rank=rank, world_size=world_size
            )
            for share in shares
        ]
        self._firsts = [0, *accumulate(share.count for share in shares)]
        self.batches_per_epoch = steps_per_epoch(shares, batch_size=batch_size)
        self._start_step, self._repeat = start_step, min(repeat_batches, self.batches_per_epoch)

    def __iter__(self) -> Iterator[list[SampleKey]]:
        """Batches of keys, without end."""
        return (self.batch(step) for step in count_from(self._start_step))

    def batch(self, step: int) -> list[SampleKey]:
        """This process's keys of batch number ``step``."""
        source, number = self.draws.draw(step % self._repeat if self._repeat else step)
        first = self._firsts[source]
        return [SampleKey(first + key.index, key.epoch) for key in self._batches[source].batch(number)]


def steps_per_epoch(shares: Sequence[Share], *, batch_size: int) -> int:
    """The steps that an epoch of a mix counts: ⌊Σ (w_i / w̄)·n_i / batch⌋, with w̄ the mean weight and n_i the images.

    With equal weights that is one pass over all images together. With others it is what sources of these sizes would
    take in as many passes as they weigh; in any case only their ratios count.
    """
    exact = [Fraction(repr(float(share.weight))) for share in shares]
    mean = sum(exact) / len(exact)
    weighted = sum(weight / mean * share.count for weight, share in zip(exact, shares, strict=True))
    return floor(weighted / batch_size)
