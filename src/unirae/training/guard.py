"""The non-finite guard: a NaN stops the run before it reaches a checkpoint (recipe, trap 5)."""

import torch
from torch import Tensor

from unirae.core.errors import NonFiniteError


class NonFiniteGuard:
    """Remembers, on the device, the first step whose terms were not all finite; the host asks when it must.

    Watching costs a few tiny kernels and no synchronisation. ``check`` synchronises: it is called where the
    host waits anyway (logging) and before every checkpoint, so that no bad weights are ever written.
    """

    def __init__(self) -> None:
        self._names: tuple[str, ...] = ()
        self._step: Tensor | None = None
        self._terms: Tensor | None = None

    def watch(self, step: int, terms: dict[str, Tensor]) -> None:
        """Look at the terms (scalars) of a step."""
        values = torch.stack([value.detach().float() for value in terms.values()])
        if self._step is None or tuple(terms) != self._names:
            first_bad = self._step if self._step is not None else torch.full((), -1.0, device=values.device)
            self._names, self._step, self._terms = tuple(terms), first_bad, values
        bad_now = ~torch.isfinite(values).all() & (self._step < 0)
        self._step = torch.where(bad_now, float(step), self._step)
        self._terms = torch.where(bad_now, values, self._terms)

    def check(self, last_good_checkpoint: str | None) -> None:
        """Stop if a watched step was not finite.

        Raises:
            NonFiniteError: names the step, every term, and the checkpoint to continue from.
        """
        if self._step is None or float(self._step) < 0:
            return
        terms = ", ".join(f"{n}={v:.4g}" for n, v in zip(self._names, self._terms.tolist(), strict=True))
        where = f"continue from {last_good_checkpoint}" if last_good_checkpoint else "no checkpoint was saved yet"
        raise NonFiniteError(
            f"step {int(self._step)} was not finite ({terms}). The last good state: {where}. Lower model.optimizer.lr, "
            "set model.clip_grad=1.0, or train with trainer.precision=32-true."
        )
