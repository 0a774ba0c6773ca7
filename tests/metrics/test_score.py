"""One call from tensors to scores."""

import pytest
import torch

from processes import run_in_processes
from toy_extractors import MeanColour, ToyClip, ToyInception
from unirae import score
from unirae.metrics.extractors import ModuleExtractor

NAMES = ("fid", "sfid", "is", "kid", "precision", "recall", "density", "coverage")


def images(count, seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 3, 16, 16), dtype=torch.uint8, generator=generator)


def scores():
    found = score(images(40, 1), images(50, 2), metrics=NAMES, extractor=ToyInception())
    return {name: estimate.value for name, estimate in found.items()}


def test_every_score_of_inception():
    assert set(scores()) == set(NAMES)
    assert scores()["fid"] > 0
    same = score(images(40, 1), images(40, 1), metrics=["fid", "precision"], extractor=ToyInception())
    assert same["fid"].value == pytest.approx(0, abs=1e-6)
    assert same["precision"].value == 1


def test_processes_compute_each_by_itself():
    """A program may call it in one of several processes, or in all, on images of its own."""
    for found in run_in_processes(scores):
        assert found == pytest.approx(scores(), rel=1e-9)


def of_prompts(prompts=None, **options):
    prompts = [f"{k} words" for k in range(40)] if prompts is None else prompts
    return score(
        images(40, 1), prompts=prompts, **{"metrics": ["clip_score"], "extractor": ToyClip(), **options}
    )


def test_a_score_of_prompts_has_them_to_itself():
    (one,) = of_prompts().values()
    assert one.value > 1
    assert one.details["images_with_prompt"] == 40
    assert of_prompts([f"{k % 7} words" for k in range(40)])["clip_score"].value != one.value
    for found in run_in_processes(of_prompts):
        assert found == {"clip_score": one}
    for options, said in (
        ({"prompts": ["a"]}, "one for each of the 40 images; got 1"),
        ({"prompts": "a" * 40}, "got a single text"),
        ({"extractor": MeanColour()}, "which colour lacks; give a CLIP"),
    ):
        with pytest.raises(ValueError, match=said):
            of_prompts(**options)
    with pytest.raises(ValueError, match="got none"):
        score(images(4, 1), metrics=["clip_score"], extractor=ToyClip())


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"metrics": ["fidd"]}, ValueError, "give some of fid, sfid"),
        ({"extractor": MeanColour()}, ValueError, "is_colour needs the logits output of Inception"),
        ({"reference": None}, ValueError, "fid.* compare with a reference"),
        ({"reference": images(20, 0)[..., :8]}, ValueError, r"\[16, 16\] px and a reference of \[16, 8\]"),
        ({"images": images(20, 0).float()}, TypeError, "must be uint8"),
        ({"images": images(20, 0)[:0]}, ValueError, "must have shape"),
        ({"images": images(9, 0)}, ValueError, "is needs at least 10 images"),
    ],
)
def test_mistakes(options, error, message):
    given = {"images": images(20, 0), "reference": images(20, 1), "extractor": ToyInception()} | options
    with pytest.raises(error, match=message):
        score(given.pop("images"), given.pop("reference"), **{"metrics": ["fid", "is"], **given})


def test_names_of_fids_own_network_are_reserved():
    with pytest.raises(ValueError, match="belongs to FID's own network"):
        ModuleExtractor(module=torch.nn.Flatten(), name="inception", width=3)
