"""With ADM's published samples and the published Inception weights: the figures of ADM's own evaluator.

    ADM_SAMPLES=admnet_guided_upsampled_imagenet256.npz ADM_REFERENCE=VIRTUAL_imagenet256_labeled.npz \
        pytest -m network tests/metrics/test_adm_self_test.py
"""

import os

import pytest

from unirae.app.evaluate import Options, run

PUBLISHED = {"is": 215.84, "fid": 3.943, "sfid": 6.140, "precision": 0.8265, "recall": 0.5309}
"""github.com/openai/guided-diffusion, evaluations/README.md."""


@pytest.mark.network
@pytest.mark.timeout(0)
def test_the_figures_of_adms_evaluator(tmp_path):
    missing = [name for name in ("ADM_SAMPLES", "ADM_REFERENCE") if name not in os.environ]
    if missing:
        pytest.skip(f"set {' and '.join(missing)} to the files' paths")
    result = run(
        Options(
            images=os.environ["ADM_SAMPLES"],
            reference=os.environ["ADM_REFERENCE"],
            metrics=",".join(PUBLISHED),
            is_order="file",
            output=tmp_path / "result.json",
        )
    )
    assert result.settings["metrics"]["fid"]["published_weights"]
    assert result.scores == pytest.approx(PUBLISHED, rel=5e-3)
