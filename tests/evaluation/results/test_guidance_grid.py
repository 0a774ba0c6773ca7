"""The grid of a sweep: its points, its lines, its best one and how sure that is."""

from pathlib import Path

import pytest

from unirae.evaluation.results.guidance_grid import (
    ALWAYS,
    Point,
    Scored,
    best,
    grid,
    lines,
    point_of,
    remarks,
    within_noise,
)
from unirae.evaluation.results.result_file import Result


def at(scale, interval=ALWAYS, steps=50, **internal):
    return Point(
        weights="EMA 0.9995",
        solver="euler",
        num_steps=steps,
        guidance_interval=interval,
        cfg_scale=scale,
        **internal,
    )


def scored(point, value, error=None, name="fid"):
    uncertainty = {} if error is None else {name: {"standard_error": error}}
    result = Result(
        file=Path("p.json"),
        metrics={name: value},
        labels={},
        count=500,
        uncertainty=uncertainty,
        warnings=[],
        settings={},
    )
    return Scored(point=point, result=result)


def test_the_product_of_all_lists():
    points = grid(
        weights=["raw", "EMA 0.9"],
        solvers=["euler", "heun"],
        num_steps=[10, 20],
        intervals=[ALWAYS],
        cfg_scales=[1.5, 2.0],
    )
    assert len(points) == len(set(points)) == 16
    assert points[0] == Point(
        weights="raw", solver="euler", num_steps=10, guidance_interval=ALWAYS, cfg_scale=1.5
    )


def test_without_guidance_there_is_no_interval():
    points = grid(
        weights=["raw"],
        solvers=["euler"],
        num_steps=[10],
        intervals=[(0.1, 0.9), (0.2, 0.8)],
        cfg_scales=[1.0, 2.0],
    )
    assert [(p.cfg_scale, p.guidance_interval) for p in points] == [
        (1.0, ALWAYS),
        (2.0, (0.1, 0.9)),
        (2.0, (0.2, 0.8)),
    ]
    assert points[0].interval_text == "-"


def test_a_point_comes_back_from_its_record():
    sampler = {
        "weights": "raw",
        "solver": "heun",
        "num_steps": 9,
        "cfg_scale": 2.0,
        "guidance_interval": [0.1, 0.9],
    }
    assert str(point_of(sampler)) == "cfg 2 in 0.1-0.9, heun 9, raw"


def test_internal_guidance_is_an_axis_of_its_own():
    points = grid(
        weights=["raw"],
        solvers=["euler"],
        num_steps=[10],
        intervals=[ALWAYS],
        cfg_scales=[1.0, 2.0],
        ig_intervals=[ALWAYS, (0.1, 1.0)],
        ig_scales=[1.0, 1.5],
    )
    internal = [(1.0, ALWAYS), (1.5, ALWAYS), (1.5, (0.1, 1.0))]
    assert [(p.cfg_scale, p.ig_scale, p.ig_interval) for p in points] == [
        (cfg, *one) for cfg in (1.0, 2.0) for one in internal
    ]
    assert str(points[2]) == "ig 1.5 in 0.1-1, euler 10, raw"
    assert str(points[4]) == "cfg 2 in 0-1, ig 1.5 in 0-1, euler 10, raw"
    assert str(points[0]) == "no guidance, euler 10, raw"


def test_a_record_without_internal_guidance_is_of_scale_1():
    sampler = {"weights": "raw", "solver": "euler", "num_steps": 9, "cfg_scale": 1.0}
    sampler["guidance_interval"] = [0.0, 1.0]
    assert (point_of(sampler).ig_scale, point_of(sampler).ig_interval_text) == (1.0, "-")
    guided = point_of(sampler | {"ig_scale": 1.5, "ig_interval": [0.1, 1.0]})
    assert (guided.ig_scale, guided.ig_interval) == (1.5, (0.1, 1.0))


def test_lines_over_either_scale():
    unguided, inner = at(1), [at(1, ig_scale=1.5), at(1, ig_scale=1.5, ig_interval=(0.1, 1.0))]
    both = at(2, ig_scale=1.5, ig_interval=(0.1, 1.0))
    of_internal = lines([scored(p, 1.0) for p in (unguided, *inner)], "ig_scale")
    assert [[s.point for s in of] for of in of_internal.values()] == [[unguided, one] for one in inner]
    of_label = lines([scored(p, 1.0) for p in (unguided, *inner, both)], "cfg_scale")
    found = [[s.point for s in of] for of in of_label.values()]
    assert sorted(found) == sorted([[unguided], [inner[0]], [inner[1], both]])


def test_the_edge_of_internal_scales():
    values = [scored(at(1, ig_scale=s), v, 0.01) for s, v in ((1.0, 3.0), (1.5, 1.0))]
    (remark,) = remarks(values, "fid")
    assert "the largest ig_scale 1.5: try scales beyond it" in remark


def test_the_best_is_the_scores_own():
    assert best([scored(at(1), 3.0), scored(at(2), 2.0)], "fid").point.cfg_scale == 2
    assert best([scored(at(1), 3.0, name="is"), scored(at(2), 2.0, name="is")], "is").point.cfg_scale == 1


def test_points_within_the_noise_of_the_best():
    points = [
        scored(at(1), 3.0, 0.1),
        scored(at(1.5), 2.0, 0.1),
        scored(at(2), 2.2, 0.1),
        scored(at(3), 2.1),
    ]
    assert [s.point.cfg_scale for s in within_noise(points, "fid")] == [2]
    assert "other points may" not in str(remarks(points[:3], "fid"))
    (remark,) = remarks(points[:3], "fid")
    assert remark.startswith("fid of 1 other point is within the noise of the best (cfg 2 in 0-1")
    assert "may be so by chance; repeat the sweep with confidence=bootstrap" in remarks(points, "fid")[0]
    assert "is not known at 1 of 4 points, so" in remarks(points, "fid")[0]


@pytest.mark.parametrize(
    ("values", "edge"),
    [
        ({1.0: 3.0, 1.5: 2.0, 2.0: 2.5}, None),
        ({1.0: 3.0, 1.5: 2.0, 2.0: 1.0}, "the largest cfg_scale 2: try scales beyond it"),
        ({1.5: 1.0, 2.0: 2.0}, "the smallest cfg_scale 1.5"),
        ({1.0: 1.0, 2.0: 2.0}, None),  # nothing is to be gained below 1
        ({1.5: 1.0}, None),
    ],
)
def test_the_edge_of_the_grid(values, edge):
    said = remarks([scored(at(scale), value, 0.01) for scale, value in values.items()], "fid")
    assert said == [] if edge is None else edge in said[0]


def test_the_edge_of_the_steps():
    said = remarks([scored(at(2, steps=s), v, 0.01) for s, v in ((10, 3.0), (20, 2.0))], "fid")
    assert "the largest num_steps 20" in said[0]


def test_every_interval_starts_without_guidance():
    points = [at(1), at(2), at(3), at(2, (0.1, 0.9)), at(3, (0.1, 0.9))]
    found = lines([scored(p, 1.0) for p in points], "cfg_scale")
    assert [[s.point for s in of] for of in found.values()] == [points[:3], [points[0], *points[3:]]]
    alone = lines([scored(at(1, steps=s), 1.0) for s in (20, 10)], "num_steps")
    assert [[s.point.num_steps for s in of] for of in alone.values()] == [[10, 20]]
