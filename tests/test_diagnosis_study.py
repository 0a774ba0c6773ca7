"""Which figure foretells samples: the tool's arithmetic, and docs/results.md shows what its JSON says."""

import pytest

import diagnosis_study as tool
from unirae.core.io import read_json


def test_agreement_is_the_share_of_pairs_in_the_same_order():
    quality = {"a": 1.0, "b": 2.0, "c": 3.0}
    assert tool.agreement({"a": 5, "b": 6, "c": 7}, quality) == 1
    assert tool.agreement({"a": 7, "b": 6, "c": 5}, quality) == 0
    assert tool.agreement({"a": 5, "b": 7, "c": 6}, quality) == pytest.approx(2 / 3)


def test_the_range_is_that_of_the_resamples():
    alike = [1.0, 2.0]
    quality = {"a": [1.0, *[1.0] * 100], "b": [2.0, *[2.0] * 90, *[0.5] * 10]}
    found = tool.agreements(dict(zip("ab", alike, strict=True)), quality)
    assert found == {"agreement": 1.0, "low": 0.0, "high": 1.0}


def test_a_figure_is_better_when_it_is_less():
    outcomes = [
        {"kind": "noise", "amount": 0.0, "psnr": 20.0, "frechet": 1.0, "seams": 2.0},
        {"kind": "left_out", "amount": 1, "psnr": 18.0, "frechet": 3.0, "seams": 2.0},
        {"kind": "left_out", "amount": 3, "psnr": 16.0, "frechet": 5.0, "seams": 2.0},
    ]
    found = {"outcomes": outcomes}
    assert tool.CANDIDATES["rfd"](found) == 1.0
    assert tool.CANDIDATES["PSNR"](found) == -20.0
    assert tool.CANDIDATES["Fréchet distance without a block, mean"](found) == 4.0
    assert tool.CANDIDATES["PSNR without a block, mean"](found) == -17.0


def test_the_page_shows_the_figures():
    found = read_json(tool.FIGURES)
    first, again = {f"{name}-0" for name in tool.DECODERS}, {f"{name}-1" for name in tool.CHECKED}
    assert set(found["decoders"]) == first | again
    assert set(found["candidates"]) == set(tool.CANDIDATES)
    assert tool.table(found) in tool.studies.PAGE.read_text(), "run: python tools/diagnosis_study.py"
