"""The callback that scores while training: what checkpoints of interrupted runs call its work."""

from types import SimpleNamespace
from typing import Any

import pytest

from unirae.training.callbacks.after_step import AfterStep
from unirae.training.callbacks.graceful_stop import GracefulStop
from unirae.training.callbacks.scoring import (
    Evaluator,
    GenerationMetrics,
    ProbeAccuracy,
    ReconstructionMetrics,
    Scoring,
)

NONE: Any = None
EVALUATORS: dict[str, Evaluator] = {
    "ReconstructionMetrics": ReconstructionMetrics(build_metrics=NONE, num_samples=1, batch_size=1),
    "GenerationMetrics": GenerationMetrics(
        build_metrics=NONE, num_samples=1, batch_size=1, num_steps=1, cfg_scale=1.0
    ),
    "ProbeAccuracy": ProbeAccuracy(batch_size=1),
}


@pytest.mark.parametrize("left", EVALUATORS)
def test_scores_that_are_left_are_computed_first_by_the_names_of_before(left, monkeypatch, tmp_path):
    done = []
    monkeypatch.setattr(AfterStep, "work_unless_asked_to_stop", lambda self, *_: done.append(self.work_name))
    callbacks = [Scoring(e, folder=tmp_path, every_n_steps=None) for e in EVALUATORS.values()]
    strategy = SimpleNamespace(reduce_boolean_decision=lambda asked, all: asked)
    stop, trainer = GracefulStop(), SimpleNamespace(callbacks=callbacks, strategy=strategy)
    stop.load_state_dict({"left": [left]})
    stop.on_train_start(trainer, NONE)  # pyright: ignore[reportArgumentType]
    assert done == [left]
    assert stop.state_dict() == {"left": [left]}
