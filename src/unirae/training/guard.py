"""The non-finite guard: a NaN stops the run before it reaches a checkpoint (recipe, trap 5)."""

import torch
from torch import Tensor

from unirae.core.arguments import argument
from unirae.core.errors import NonFiniteError


class NonFiniteGuard:
    """Remembers, on the device, the first step whose terms were not all finite; the host asks when it must.

    Watching costs a few tiny kernels and no synchronisation. ``check`` synchronises: it is called where the
    host waits anyway (logging) and before every checkpoint, so that no bad weights are ever written.
    """

    def __init__(self) -> None:
        # A step's terms change when the GAN starts: one record (first bad step or −1, its values) per set of names.
        self._records: dict[tuple[str, ...], tuple[Tensor, Tensor]] = {}

    def watch(self, step: int, terms: dict[str, Tensor]) -> None:
        """Look at the terms (scalars) of a step."""
        if not terms:
            return
        names, values = tuple(terms), torch.stack([value.detach().float() for value in terms.values()])
        never = torch.full((), -1.0, device=values.device)
        bad_step, bad_values = self._records.get(names, (never, values))
        bad_now = ~torch.isfinite(values).all() & (bad_step < 0)
        self._records[names] = (
            torch.where(bad_now, float(step), bad_step),
            torch.where(bad_now, values, bad_values),
        )

    def check(self, last_good_checkpoint: str | None) -> None:
        """Stop if a watched step was not finite.

        Raises:
            NonFiniteError: If a term of a step was not finite; names the first such step, its terms, and the
                checkpoint to continue from.
        """
        bad = [(int(step), names, values) for names, (step, values) in self._records.items() if step >= 0]
        if not bad:
            return
        step, names, values = min(bad, key=lambda record: record[0])
        terms = ", ".join(f"{n}={v:.4g}" for n, v in zip(names, values.tolist(), strict=True))
        where = (
            f"continue from {last_good_checkpoint}" if last_good_checkpoint else "no checkpoint was saved yet"
        )
        raise NonFiniteError(
            f"step {step} was not finite ({terms}). The last good state: {where}. Lower "
            f"{argument('stage.optimizer.lr')}, set {argument('stage.clip_grad', 1.0)}, or train with "
            f"{argument('training.precision', '32-true')}."
        )
