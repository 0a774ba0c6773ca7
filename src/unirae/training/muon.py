"""Muon: momentum whose matrices are made orthogonal (Jordan et al. 2024), beside AdamW for all other parameters.

RAEv2's way (recipe, section 7): Newton–Schulz with the coefficients of Polar Express (Amsel et al. 2025), for matrices
that are not square in its Gram form (timm's standard form misses the reference's steps by 2 % in float16); a learning
rate scaled by 0.2·√max(rows, columns), so that an update has the size of AdamW's (Liu et al. 2025); Nesterov momentum.
A matrix that several projections share may be taken part by part, each with its own scale (CMuon, arXiv 2608.02502).

Over several processes each makes its share of the matrices orthogonal and sends them to the others, for that is most of
the work; gradients and momentum are the same everywhere.
"""

import heapq
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed
from jaxtyping import Float
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.adamw import adamw

from unirae.core.distributed import rank, world_size

POLAR_EXPRESS = [
    (7.892582874424408, -20.38301394587957, 13.555306149406924),
    (3.911484868135431, -2.5464635929060884, 0.4268988319673074),
    (3.760657955697423, -2.512819018216563, 0.4323647349070073),
    (3.160399673686287, -2.149649518898498, 0.3996366907664389),
    (2.1910971618617303, -1.441662010214663, 0.328146487623155),
]
"""(a, b, c) of the five steps X ← aX + (bA + cA²)X, A = XXᵀ: Polar Express' own, made safe by 1.05, 1.05³, 1.05⁵."""
_RESTART = 2
_SMALLEST_NORM = 1e-7
_AT_ONCE, _AT_ONCE_ON_CPU = 16, 4
"""Matrices of one shape that are multiplied together: enough to fill a GPU, few enough not to need its memory. On a
CPU, where small ones are meant, the step for RAEv2's DiT^DH dummy became 1.06 times as fast in 16 bits as the
library's, which was 0.49 before (benchmarks/muon_step.py, two cores with AMX)."""
_SMALL = 2**20
"""Numbers of a matrix up to which a CPU multiplies several together: larger ones keep its cores busy alone."""
_PANELS, _SMALLEST_PANEL = 4, 256
"""Of the rows of a symmetric product on a CPU: four leave out 3/8 of it. All of Newton–Schulz then takes 0.78 to 0.84
of the time for 1024 rows, in 32 and in 16 bits (two cores, AVX-512). Less than two whole panels only cost time."""


@dataclass(frozen=True)
class Matrix:
    """A two-dimensional parameter, and of how many matrices below each other it consists."""

    parameter: nn.Parameter
    parts: int = 1


def orthogonalised(matrices: Float[Tensor, "k m n"], *, dtype: torch.dtype) -> Float[Tensor, "k m n"]:
    """The nearest (semi-)orthogonal matrices, roughly: singular values end between about 0.85 and 1.12.

    Args:
        dtype: of the products; norms are taken in float32 before.
    """
    wide = matrices.shape[-2] <= matrices.shape[-1]
    x = (matrices if wide else matrices.mT).float()
    x = (x / (x.norm(dim=(-2, -1), keepdim=True) + _SMALLEST_NORM)).to(dtype)
    x = _iterated(x) if x.shape[-2] == x.shape[-1] else _iterated_by_gram(x)
    return x if wide else x.mT


def _iterated(x: Float[Tensor, "k m n"]) -> Float[Tensor, "k m n"]:
    """X ← aX + (bA + cA²)X, A = XXᵀ."""
    for a, b, c in POLAR_EXPRESS:
        gram = symmetric_product(x, x.mT)
        x = torch.baddbmm(x, symmetric_product(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x


def _iterated_by_gram(x: Float[Tensor, "k m n"]) -> Float[Tensor, "k m n"]:
    """The same by products of the small side alone: with R = XXᵀ and Z = bR + cR², X ← QX at the end of Q ← Q(Z + aI).

    All but X are polynomials in R, hence symmetric. R ← (Z + aI)R(Z + aI) loses what 16 bits do not hold, so X and R
    are computed anew before the third step. In 32 bits this matters, too: where one singular value is a thousand times
    the others the result would be 20 % off without.
    """
    gram, product = symmetric_product(x, x.mT), None
    for step, (a, b, c) in enumerate(POLAR_EXPRESS):
        if step == _RESTART and product is not None:
            x = product @ x
            gram, product = symmetric_product(x, x.mT), None
        z = symmetric_product(gram, gram, gram, beta=b, alpha=c)
        if product is None:
            product = z + a * torch.eye(z.shape[-1], dtype=z.dtype, device=z.device)
        else:
            product = symmetric_product(product, z, product, beta=a)
        if step + 1 not in (_RESTART, len(POLAR_EXPRESS)):
            half = symmetric_product(gram, z, gram, beta=a)
            gram = symmetric_product(z, half, half, beta=a)
    assert product is not None
    return product @ x


def symmetric_product(
    a: Float[Tensor, "k m n"],
    b: Float[Tensor, "k n m"],
    added: Float[Tensor, "k m m"] | None = None,
    *,
    beta: float = 1.0,
    alpha: float = 1.0,
) -> Float[Tensor, "k m m"]:
    """β·added + α·ab, or ab, known to be symmetric: a CPU multiplies only what lies on the diagonal and right of it."""
    rows = a.shape[-2]
    height = max(_SMALLEST_PANEL, -(-rows // _PANELS))
    if a.device.type != "cpu" or rows < 2 * height:
        return a @ b if added is None else torch.baddbmm(added, a, b, beta=beta, alpha=alpha)
    out = a.new_empty(len(a), rows, rows)
    for number, matrix in enumerate(out):
        for top in range(0, rows, height):
            panel = slice(top, min(top + height, rows))
            right = matrix[panel, top:]
            if added is None:
                torch.mm(a[number, panel], b[number, :, top:], out=right)
            else:
                start = added[number, panel, top:]
                torch.addmm(start, a[number, panel], b[number, :, top:], beta=beta, alpha=alpha, out=right)
            matrix[panel.stop :, panel] = matrix[panel, panel.stop :].mT
    return out


class Muon(Optimizer):
    """Muon for matrices and AdamW for other parameters, in one object: two groups, whose rates one schedule sets.

    Args:
        matrices: what Muon updates, in an order that every process shares.
        others: what AdamW updates.
        lr: of both; a matrix's is scaled by 0.2·√max(rows, columns) of its parts.
        momentum: μ of Muon: M ← μ·M + g, and g + μ·M is made orthogonal.
        betas: of AdamW.
        dtype: of Newton–Schulz's products; None: float16 on CUDA, as in the reference, float32 elsewhere.
    """

    def __init__(
        self,
        matrices: Iterable[Matrix],
        others: Iterable[nn.Parameter],
        *,
        lr: float,
        momentum: float = 0.95,
        betas: tuple[float, float] = (0.9, 0.95),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        dtype: torch.dtype | None = None,
    ) -> None:
        matrices = list(matrices)
        self._parts = [matrix.parts for matrix in matrices]
        self._dtype = dtype
        others = list(others)
        shared = {"lr": lr, "weight_decay": weight_decay}
        # torch looks at it, too: of a fused kernel a checkpoint's counts of steps go to the parameters' device
        fused = all(parameter.device.type in ("cpu", "cuda", "mps") for parameter in others)
        groups: list[dict[str, Any]] = [
            {"params": [matrix.parameter for matrix in matrices], "momentum": momentum, **shared},
            {"params": others, "betas": betas, "eps": eps, "fused": fused, **shared},
        ]
        super().__init__(groups, shared)

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """Update all parameters that have a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        of_matrices, of_others = self.param_groups
        self._step_matrices(of_matrices)
        self._step_others(of_others)
        return loss

    def _step_matrices(self, group: dict[str, Any]) -> None:
        found = [(p, n) for p, n in zip(group["params"], self._parts, strict=True) if p.grad is not None]
        if not found:
            return
        parameters = [parameter for parameter, _ in found]
        gradients = [parameter.grad for parameter in parameters]
        for parameter in parameters:
            if "momentum" not in self.state[parameter]:
                self.state[parameter]["momentum"] = torch.zeros_like(parameter)
        momenta = [self.state[parameter]["momentum"] for parameter in parameters]
        torch._foreach_mul_(momenta, group["momentum"])
        torch._foreach_add_(momenta, gradients)
        if group["weight_decay"]:
            torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])

        def pieces(tensors: Iterable[Tensor]) -> list[Tensor]:
            return [
                piece
                for tensor, (_, parts) in zip(tensors, found, strict=True)
                for piece in tensor.chunk(parts)
            ]

        moved, slopes, moments = pieces(parameters), pieces(gradients), pieces(momenta)

        def ahead(number: int) -> Tensor:
            return slopes[number].add(moments[number], alpha=group["momentum"])

        # each is made when it is its turn and forgotten then: all at once would need as much memory as the weights
        for number, update in self._all_orthogonalised(moved, ahead):
            piece = moved[number]
            piece.sub_(update, alpha=group["lr"] * 0.2 * max(piece.shape) ** 0.5)

    def _all_orthogonalised(
        self, like: Sequence[Tensor], ahead: Callable[[int], Tensor]
    ) -> Iterator[tuple[int, Tensor]]:
        """Every piece made orthogonal, with its number, each by one of the processes."""
        shares = _shares([piece.shape for piece in like], world_size())
        dtype = self._dtype or (torch.float16 if like[0].is_cuda else torch.float32)
        made = _orthogonalised_by_shape(like, ahead, shares[rank()], dtype)
        if world_size() == 1:
            yield from made
            return
        kept = _kept(dtype)
        results = {number: piece.to(kept) for number, piece in made}
        for source, share in enumerate(shares):
            yield from _sent(results, like, share, source, kept)

    def _step_others(self, group: dict[str, Any]) -> None:
        parameters = [parameter for parameter in group["params"] if parameter.grad is not None]
        if not parameters:
            return
        for parameter in parameters:
            if not self.state[parameter]:
                self.state[parameter] |= {
                    "step": torch.zeros((), dtype=torch.float32, device=parameter.device),
                    "exp_avg": torch.zeros_like(parameter),
                    "exp_avg_sq": torch.zeros_like(parameter),
                }
        states = [self.state[parameter] for parameter in parameters]
        beta1, beta2 = group["betas"]
        adamw(
            parameters,
            [parameter.grad for parameter in parameters],
            [state["exp_avg"] for state in states],
            [state["exp_avg_sq"] for state in states],
            [],
            [state["step"] for state in states],
            fused=group["fused"],
            amsgrad=False,
            beta1=beta1,
            beta2=beta2,
            lr=group["lr"],
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            maximize=False,
        )


def _shares(shapes: Sequence[torch.Size], processes: int) -> list[list[int]]:
    """The numbers of the matrices that each process takes: the costliest first, to who has least to do."""
    loads = [(0.0, process) for process in range(processes)]
    shares: list[list[int]] = [[] for _ in loads]
    for number in sorted(range(len(shapes)), key=lambda number: (-_cost(shapes[number]), number)):
        load, process = heapq.heappop(loads)
        shares[process].append(number)
        heapq.heappush(loads, (load + _cost(shapes[number]), process))
    return [sorted(share) for share in shares]


def _kept(dtype: torch.dtype) -> torch.dtype:
    """The type before and after the products: bfloat16 where they are in float16, as in the reference."""
    return torch.bfloat16 if dtype == torch.float16 else dtype


def _cost(shape: torch.Size) -> float:
    """Multiplications of a step of Newton–Schulz."""
    small, large = sorted(shape)
    return small * small * (2 * large + small)


def _orthogonalised_by_shape(
    like: Sequence[Tensor], ahead: Callable[[int], Tensor], share: Sequence[int], dtype: torch.dtype
) -> Iterator[tuple[int, Tensor]]:
    """The pieces of a share with their numbers, some of one shape multiplied together."""
    kept = _kept(dtype)
    by_shape: dict[torch.Size, list[int]] = {}
    for number in share:
        by_shape.setdefault(like[number].shape, []).append(number)
    for shape, numbers in by_shape.items():
        at_once = (
            _AT_ONCE if like[0].device.type != "cpu" else _AT_ONCE_ON_CPU if shape.numel() <= _SMALL else 1
        )
        for start in range(0, len(numbers), at_once):
            chosen = numbers[start : start + at_once]
            stacked = torch.stack([ahead(number).to(kept) for number in chosen])
            yield from zip(chosen, orthogonalised(stacked, dtype=dtype).to(kept), strict=True)


def _sent(
    results: dict[int, Tensor],
    like: Sequence[Tensor],
    share: Sequence[int],
    source: int,
    dtype: torch.dtype,
) -> Iterator[tuple[int, Tensor]]:
    """What process ``source`` made of its share, in every process."""
    if not share:
        return
    sizes = [like[number].numel() for number in share]
    if rank() == source:
        flat = torch.cat([results[number].flatten() for number in share])
    else:
        flat = torch.empty(sum(sizes), dtype=dtype, device=like[share[0]].device)
    torch.distributed.broadcast(flat, source)
    for number, part in zip(share, flat.split(sizes), strict=True):
        yield number, part.view(like[number].shape)
