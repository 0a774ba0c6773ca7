import math
from types import SimpleNamespace

import pytest
import torch

from unirae.core.errors import NonFiniteError
from unirae.training.manual import NonFiniteGuard
from unirae.training.stage1 import Stage1
from unirae.training.stage2 import Stage2


def watch(guard: NonFiniteGuard, step: int, **terms: float) -> None:
    guard.watch(step, {name: torch.tensor(value) for name, value in terms.items()})


def test_finite_steps_pass():
    guard = NonFiniteGuard()
    guard.check(None)
    for step in range(5):
        watch(guard, step, loss=1e30, l1=0.0)
    guard.check(None)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_names_the_first_bad_step_all_terms_and_the_last_good_checkpoint(bad):
    guard = NonFiniteGuard()
    watch(guard, 6, loss=1.0, l1=0.5)
    watch(guard, 7, loss=2.0, l1=bad)
    watch(guard, 8, loss=math.nan, l1=math.nan)
    with pytest.raises(NonFiniteError) as error:
        guard.check("runs/a/checkpoints/last.ckpt")
    assert f"step 7 was not finite (loss=2, l1={bad:.4g})" in str(error.value)
    assert "continue from runs/a/checkpoints/last.ckpt" in str(error.value)


def test_a_later_set_of_terms_does_not_hide_an_earlier_bad_step():
    guard = NonFiniteGuard()
    watch(guard, 3, loss=math.nan)
    watch(guard, 4, loss=math.inf, gan=1.0)  # the discriminator joins
    with pytest.raises(NonFiniteError, match=r"step 3 was not finite \(loss=nan\).*no checkpoint was saved"):
        guard.check(None)


def test_a_bad_step_of_a_new_set_of_terms_is_seen():
    guard = NonFiniteGuard()
    watch(guard, 3, loss=1.0)
    watch(guard, 4, loss=1.0, gan=math.nan)
    watch(guard, 5, loss=1.0)
    with pytest.raises(NonFiniteError, match=r"step 4 was not finite \(loss=1, gan=nan\)"):
        guard.check(None)


@pytest.mark.parametrize(
    ("module", "guarded"),
    [(Stage1, {"l1", "disc_loss"}), (Stage2, {"l1", "disc_loss", "loss", "adaptive_weight"})],
)
def test_fp16_overflow_is_the_scalers_business_and_a_bad_loss_is_the_guards(module, guarded):
    """Stage 1's total has λ in it, a quotient of scaled norms; stage 2's loss is never scaled."""
    terms = {name: torch.zeros(()) for name in ("l1", "loss", "adaptive_weight", "grad_norm", "disc_loss")}
    watched = {
        scaler: set(
            module.guarded_terms(SimpleNamespace(scaler=scaler, scaled_terms=module.scaled_terms), terms)
        )
        for scaler in (None, "fp16")
    }
    assert watched[None] == set(terms)
    assert watched["fp16"] == guarded


def test_a_step_without_guarded_terms_is_fine():
    guard = NonFiniteGuard()
    guard.watch(1, {})
    guard.check(None)
