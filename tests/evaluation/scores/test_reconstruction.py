"""Reconstruction scores: independent of batches and processes, honest about their settings."""

import json
import logging

import pytest
import torch
from torch import nn

from processes import run_in_processes
from unirae.core.errors import ConfigError, DataError, NonFiniteError
from unirae.evaluation.passes.reading import choose_indices
from unirae.evaluation.scores.baselines import MeanColour
from unirae.evaluation.scores.metric_set import MetricSources, build_reconstruction_metrics
from unirae.evaluation.scores.reconstruction import evaluate_reconstruction
from unirae.evaluation.scores.record import write_scores
from unirae.metrics.extractors import EncoderExtractor


class Pictures:
    """Smooth random pictures, like a data set; number ``bad`` is replaced by the next."""

    def __init__(self, count=45, size=(16, 24), bad=None):
        self.count, self.size, self.bad = count, size, bad

    def __len__(self):
        return self.count

    def __getitem__(self, key):
        index = key + 1 if key == self.bad else key
        coarse = torch.rand(1, 3, 4, 4, generator=torch.Generator().manual_seed(index))
        image = nn.functional.interpolate(coarse, self.size, mode="bilinear")[0]
        return {"image": (image * 255).round().to(torch.uint8), "label": 0, "index": index}


class Blur(nn.Module):
    """A reconstructor with a network, noisy in training mode, that notes the batches it sees."""

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.first = nn.Conv2d(3, 48, 5, padding=2)
        self.last = nn.Conv2d(48, 3, 5, padding=2)
        for layer in (self.first, self.last):
            nn.init.normal_(layer.weight, std=0.02, generator=generator)
            nn.init.zeros_(layer.bias)
        self.frozen = nn.Identity().eval()
        self.batches = set()

    def reconstruct(self, images):
        self.batches.add(len(images))
        result = images + self.last(torch.relu(self.first(images)))
        return result + torch.rand_like(result) if self.training else result


class PatchEncoder(nn.Conv2d):
    """An encoder in miniature."""

    width = 12

    def __init__(self):
        super().__init__(3, 12, 4, stride=4, bias=False)
        nn.init.normal_(self.weight, generator=torch.Generator().manual_seed(1))


def _metrics(*names):
    extractor = EncoderExtractor(encoder=PatchEncoder(), name="tiny", identity={"sha256": "0"})
    return build_reconstruction_metrics(names or ("rfd", "psnr", "ssim"), MetricSources(encoder=extractor))


def _evaluate(reconstructor=None, data=None, *, metrics=None, batch_size=7, **kwargs):
    return evaluate_reconstruction(
        Blur() if reconstructor is None else reconstructor,
        Pictures() if data is None else data,
        metrics=_metrics() if metrics is None else metrics,
        batch_size=batch_size,
        **kwargs,
    )


def test_scores_do_not_depend_on_the_batch_size():
    blur = Blur()
    scores = [_evaluate(blur, batch_size=size).scores for size in (1, 7, 32, 45)]
    assert set(scores[0]) == {"rfd_tiny", "psnr", "ssim"}
    for other in scores[1:]:
        assert other == pytest.approx(scores[0], rel=1e-9)
    assert blur.batches == {16}


def _in_process(count):
    torch.set_num_threads(1)
    result = _evaluate(data=Pictures(count))
    return result.scores, result.count


@pytest.mark.parametrize("count", [45])
def test_two_processes_equal_one(count):
    expected = _evaluate(data=Pictures(count))
    for scores, seen in run_in_processes(_in_process, count):
        assert seen == count  # neither padded nor duplicated
        assert scores == pytest.approx(expected.scores, rel=1e-9)


def test_it_runs_in_eval_mode_and_leaves_each_modules_mode_alone():
    blur = Blur().train()
    blur.frozen.eval()
    assert _evaluate(blur).scores == pytest.approx(_evaluate(Blur().eval()).scores)
    assert blur.training
    assert not blur.frozen.training


def test_a_perfect_reconstruction():
    class Identity:
        def reconstruct(self, images):
            return images

    scores = _evaluate(Identity()).scores
    assert scores == pytest.approx({"rfd_tiny": 0.0, "psnr": 100.0, "ssim": 1.0}, abs=1e-6)


def test_reconstructions_are_clamped_then_rounded():
    class Bright:
        def reconstruct(self, images):
            return torch.ones_like(images) * 1.3

    class White:
        def reconstruct(self, images):
            return torch.ones_like(images) - 0.4 / 255

    assert _evaluate(Bright()).scores == _evaluate(White()).scores


def test_mean_colour_keeps_one_colour_per_image():
    images = torch.rand(3, 3, 6, 5)
    result = MeanColour().reconstruct(images)
    assert result.shape == images.shape
    torch.testing.assert_close(result[1, 2], images[1, 2].mean().expand(6, 5))
    assert _evaluate(MeanColour()).scores["psnr"] < _evaluate().scores["psnr"]


def test_a_subset_is_random_seeded_and_distinct():
    chosen = choose_indices(100, 30, seed=0)
    assert chosen == sorted(set(chosen)) == choose_indices(100, 30, seed=0)
    assert len(chosen) == 30
    assert chosen != list(range(30))
    assert chosen != choose_indices(100, 30, seed=1)
    assert choose_indices(5, None, seed=0) == choose_indices(5, 5, seed=3) == list(range(5))


def test_the_settings_tell_everything(tmp_path):
    result = _evaluate(data=Pictures(bad=3), num_samples=40, about={"checkpoint": "c.ckpt"})
    content = json.loads(write_scores(tmp_path / "eval" / "scores.json", result).read_text())
    assert content["metrics"] == result.scores
    assert content["count"] == 40
    assert list(result.labelled()) == ["rfd_tiny@40", "psnr", "ssim"]
    settings = content["settings"]
    images = settings["images"]
    assert images["checkpoint"] == "c.ckpt"
    assert images["unreadable_images_replaced"] == (3 in choose_indices(45, 40, 0))
    assert (images["count_available"], images["subset_seed"]) == (45, 0)
    assert (images["size_px"], images["precision"]) == ([16, 24], "fp32")
    assert settings["reference"]["purpose"] == "reconstruction"
    assert settings["metrics"]["rfd_tiny"]["sha256"] == "0"
    assert settings["versions"]["torch"] == torch.__version__


def test_few_samples_are_warned_about_once(caplog):
    with caplog.at_level(logging.WARNING, logger="unirae"):
        for _ in range(2):
            _evaluate(num_samples=39)
        _evaluate(num_samples=38, metrics=_metrics("psnr"))
    warnings = [record.getMessage() for record in caplog.records if "biased" in record.getMessage()]
    assert len(warnings) == 1
    assert "@39" in warnings[0]


def test_progress_counts_images():
    seen = []
    _evaluate(progress=lambda done, total: seen.append((done, total)))
    assert seen == [(16, 45), (32, 45), (45, 45)]


def test_16_bit_reconstruction_keeps_metrics_in_float32():
    assert _evaluate(precision="bf16").scores == pytest.approx(_evaluate().scores, rel=0.05)


@pytest.mark.parametrize(
    ("data", "num_samples", "message"),
    [(Pictures(0), None, "empty"), (Pictures(9), 10, "has 9 images"), (Pictures(9), 0, "has 9 images")],
)
def test_too_few_images(data, num_samples, message):
    with pytest.raises(DataError, match=message):
        _evaluate(data=data, num_samples=num_samples)


def test_another_size_and_nan_are_refused():
    class Small:
        def reconstruct(self, images):
            return images[..., :14, :14]

    class Broken:
        def reconstruct(self, images):
            return images * float("nan")

    with pytest.raises(ConfigError, match="cropped to 16×24 px, the decoder puts out 14×14"):
        _evaluate(Small())
    with pytest.raises(NonFiniteError, match="NaN"):
        _evaluate(Broken())
