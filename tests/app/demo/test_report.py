"""The demo's report: complete, one file, and no claim that the numbers do not support."""

import csv
import json
import re
from html.parser import HTMLParser

import pytest
import torch
from PIL import Image

from unirae.app.demo.report import draw_reconstructions, write_report
from unirae.app.demo.report.pictures import (
    choose_moments,
    draw_classes,
    draw_denoising,
    draw_growth,
    draw_guidance,
    draw_learning,
    draw_nearest,
)
from unirae.app.demo.report.scores import ScoredModel, compare
from unirae.app.pictures.plots import LIGHT, Curve, Panel, draw_panel, read_curve, smooth
from unirae.app.pictures.strips import strip
from unirae.core.errors import UserError
from unirae.core.images import image_grid, save_png

RAE = {"psnr": 21.312, "ssim": 0.842, "rfd_mae": 0.412}
MEAN = {"psnr": 11.832, "ssim": 0.412, "rfd_mae": 25.31}


def solid(*values, size=8):
    """One uint8 image of a single grey each."""
    return torch.tensor(values, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 3, size, size)


def write_run(folder, columns, *, steps=range(10, 60, 10)):
    (folder / "csv").mkdir(parents=True)
    with open(folder / "csv/metrics.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, ["step", *columns], restval="")
        writer.writeheader()
        for step in steps:
            writer.writerow({"step": step, **{name: value(step) for name, value in columns.items()}})
    (folder / "config.yaml").write_text("data:\n  global_batch_size: 64\nnote: <b>&\n")


@pytest.fixture
def demo_dir(tmp_path):
    folder = tmp_path / "demo"
    write_scores(folder)
    speed = {"train/images_per_s": lambda step: 600 + step}
    write_run(folder / "encoder", {"train/loss": lambda step: 1 / step, **speed})
    decoder = {
        "train/l1": lambda step: 1 / step,
        "train/perceptual": lambda step: 2 / step,
        "train/gan": lambda step: 0.1 if step >= 40 else "",
        "val/psnr": lambda step: step if step % 20 == 0 else "",
        **speed,
    }
    write_run(folder / "rae", decoder)
    for step in (1, 20, 40):
        grid = image_grid(torch.cat([solid(0, 10), solid(step, step)]), columns=2)
        save_png(folder / "rae/samples" / f"step-{step:07d}.png", grid)
    draw_reconstructions(folder / "pictures/reconstructions.png", [("originals", solid(1, 2))])
    return folder


def write_scores(folder, rae=RAE, mean=MEAN):
    rows = [
        {"name": "RAE", "key": "rae", "scores": rae},
        {"name": "mean colour", "key": "mean_colour", "scores": mean},
    ]
    content = {
        "data": {"name": "emoji"},
        "count": 186,
        "rows": rows,
        "settings": {"weights": "EMA"},
        "seconds": {"encoder": 131.0, "rae": 204.0},
        "parameters": {"encoder": 3_010_000},
        "machine": {"processor": "a <small> one"},
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "scores.json").write_text(json.dumps(content))


GENERATION = {
    "real": {"fd_mae": 0.132, "fd_mae_within_class": 1.121, "classified": 0.762},
    "samples": {"fd_mae": 0.871, "fd_mae_within_class": 2.504, "classified": 0.724},
    "noise": {"fd_mae": 17.552, "fd_mae_within_class": 17.925, "classified": 0.119},
    "mislabelled": {"fd_mae_within_class": 7.413, "classified": 0.027},
}
COPIES = {
    "median_of_copies": 10.0,
    "median_of_new": 40.0,
    "median_of_samples": 34.0,
    "threshold": 15.0,
    "new_as_near_as_copies": 0.022,
    "samples_as_near_as_copies": 0.016,
}


def add_generation(folder, *, copies=None, **samples):
    """The second half of a demo: a DiT's run, what was measured of its samples, their pictures."""
    scores = json.loads((folder / "scores.json").read_text())
    candidates = {**GENERATION, "samples": {**GENERATION["samples"], **samples}}
    scores["generation"] = {
        "count": 185,
        "class_names": ["Food & Drink", "Flags"],
        "class_counts": [100, 85],
        "rows": [{"key": key, "name": f"the {key}", "scores": values} for key, values in candidates.items()],
        "by_chance": {"fd_mae": [0.111, 0.157], "fd_mae_within_class": [0.928, 1.585]},
        "classifier": {
            "settings": {"epochs": 20},
            "standard_errors": {"real": 0.031, "samples": 0.033},
            "confusion": {"real": [[80, 20], [10, 75]], "samples": [[70, 30], [21, 64]]},
        },
        "copies": {**COPIES, **(copies or {})},
        "sampler": {"seed": 3, "cfg_scale": 2.5, "num_steps": 40, "size_px": [64, 64]},
        "generator": {"checkpoint_sha256": "abc"},
        "extractor": {"name": "mae"},
        "reference": {"count": 1676},
    }
    scores["seconds"] |= {"dit": 600.0, "classifier": 48.0, "samples": 30.0}
    scores["parameters"]["dit"] = 13_230_000
    (folder / "scores.json").write_text(json.dumps(scores))
    if not (folder / "dit").exists():
        logged = {"train/loss": lambda step: 1 / step, "val/fd_mae": lambda step: 20 / step}
        write_run(folder / "dit", logged)
    for step in (1, 40):
        save_png(folder / "dit/samples" / f"step-{step:07d}.png", image_grid(solid(*range(16)), columns=8))
    for name in ("samples", "guidance", "denoising", "nearest"):
        draw_reconstructions(folder / f"pictures/{name}.png", [(name, solid(1, 2))])


def page_of(folder):
    """The report, with every run of white space as one space."""
    return " ".join(write_report(folder).read_text(encoding="utf-8").split())


class Checker(HTMLParser):
    """Collects what a page loads, and that its tags nest."""

    VOID = ("meta", "img", "source", "br")

    def __init__(self, page):
        super().__init__()
        self.open, self.loaded, self.anchors, self.links, self.alts = [], [], set(), set(), []
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        assert tag not in ("script", "link", "iframe")
        self.loaded += [attrs[name] for name in ("src", "srcset") if name in attrs]
        self.alts += [attrs.get("alt")] if tag == "img" else []
        self.anchors |= {attrs["id"]} if "id" in attrs else set()
        self.links |= {attrs["href"]} if "href" in attrs else set()
        self.open += [tag] if tag not in self.VOID else []

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_one_complete_file(demo_dir):
    path = write_report(demo_dir)
    assert path == demo_dir / "report.html"
    page = page_of(demo_dir)
    check = Checker(page)
    assert len(check.loaded) >= 2 + 3 * 2  # two pictures, three panels in light and dark
    assert all(uri.startswith("data:image/png;base64,iVBOR") for uri in check.loaded)
    assert all(check.alts)
    assert check.links == {f"#{anchor}" for anchor in check.anchors}
    assert "url(" not in page
    assert not re.search(
        r"[{]{2}|[}]{2}|[{]%|[{]#|None", re.sub(r"data:image/png;base64,[\w+/=]*|<style>.*</style>", "", page)
    )
    for text in ("186 held-out", "21.31", "0.842", "PSNR&nbsp;↑", "Fréchet distance&nbsp;↓", "never with a"):
        assert text in page
    for text in ("5 min 35 s", "50 × 64", "3 min 24 s", "630 images/s", "3.01 M", "about step 40", "EMA"):
        assert text in page
    assert "a &lt;small&gt; one" in page
    assert "&lt;b&gt;&amp;" in page
    assert f"--checkpoint {demo_dir}/rae --images DIR" in page
    pictures = {file.name for file in (demo_dir / "pictures").iterdir()}
    assert {"learning.png", "curves_encoder.png", "curves_rae.png", "curves_psnr.png"} <= pictures


def test_what_is_missing_has_no_section(tmp_path):
    write_scores(tmp_path)
    check = Checker(page_of(tmp_path))
    assert check.anchors == {"scores", "what", "cost", "next"}
    assert not check.loaded


def test_the_generator_has_its_sections(demo_dir):
    before = Checker(page_of(demo_dir))
    add_generation(demo_dir)
    page = page_of(demo_dir)
    check = Checker(page)
    new = {"samples", "guidance", "denoising", "nearest", "generation-scores"}
    assert check.anchors - before.anchors == new
    assert check.links == {f"#{anchor}" for anchor in check.anchors}
    assert (
        len(check.loaded) == len(before.loaded) + 4 + 1 + 2 * 2
    )  # pictures, growth, two panels in light and dark
    assert all(uri.startswith("data:image/png;base64,iVBOR") for uri in check.loaded)
    assert all(check.alts)
    assert "diffusion transformer</h1>" in page
    assert "three small networks" in page
    for text in (
        "15 min 35 s",
        "Stage 2, the generator (10 min",
        "13.23 M",
        "seed 3, guidance 2.5, 40 time points",
    ):
        assert text in page
    assert "--labels Flags --num_samples 16 --cfg_scale 2.5" in page
    assert "trainer.max_steps=500 " in page
    assert "Food &amp; Drink" in page
    assert "classifier that judges the samples" in page


def test_what_the_page_says_of_samples_follows_the_numbers(demo_dir):
    add_generation(demo_dir)
    page = page_of(demo_dir)
    assert (
        "<b>72%</b> of the samples and in 76% of real pictures: 0.95 of its accuracy, at least the 95%"
        in page
    )
    assert page.count("nearer to real pictures than to any baseline") == 2
    assert "80% of the way from copies to new pictures" in page
    assert "no sign of copying" in page
    assert "0.111 to 0.157" in page
    assert "<td>76<small>± 3</small></td>" in page

    assert "That is more than of real pictures" not in page

    add_generation(demo_dir, classified=0.9)
    assert "That is more than of real pictures" in page_of(demo_dir)

    add_generation(
        demo_dir,
        classified=0.4,
        fd_mae_within_class=6.0,
        copies={"samples_as_near_as_copies": 0.3, "median_of_samples": 55.0},
    )
    page = page_of(demo_dir)
    assert "0.52 of its accuracy, short of the 95% aimed at" in page
    assert page.count("nearer to real pictures than to any baseline") == 1
    assert "not nearer to real pictures than to <i>the mislabelled</i>" in page
    assert "farther away than new pictures" in page
    assert "some samples may be copies" in page


def test_confusion_is_a_table_of_counts(demo_dir):
    add_generation(demo_dir)
    page = page_of(demo_dir)
    assert re.search(r"1 Food &amp; Drink</th><td class=\"best\">70</td><td>30</td>", page)
    assert re.search(r"2 Flags</th><td>10</td><td class=\"best\">75</td>", page)


def test_strange_names_are_text(demo_dir):
    add_generation(demo_dir)
    scores = json.loads((demo_dir / "scores.json").read_text())
    scores["generation"]["class_names"] = ["<script>alert(1)</script>", "\"Q\" & 'A' {{ 7 * 7 }}"]
    scores["generation"]["rows"][3]["name"] = "<i>wrong"
    scores["generation"]["rows"][3]["scores"]["fd_mae_within_class"] = 2.5
    scores["rows"][1]["name"] = "<b>grey"
    (demo_dir / "scores.json").write_text(json.dumps(scores))
    page = page_of(demo_dir)
    Checker(page)  # no script, and every tag is closed
    assert page.count("&lt;script&gt;alert(1)&lt;/script&gt;") == 2
    assert page.count("&#34;Q&#34; &amp; &#39;A&#39; {{ 7 * 7 }}</th>") == 2
    assert "--labels &#39;&#34;Q&#34; &amp; " in page  # for the shell, then for the page
    assert "not nearer to real pictures than to <i>&lt;i&gt;wrong</i>" in page
    assert "Compared with <i>&lt;b&gt;grey</i>" in page


def test_samples_without_a_run_are_shown_all_the_same(demo_dir):
    add_generation(demo_dir)
    for file in (demo_dir / "dit/csv").iterdir():
        file.unlink()
    page = page_of(demo_dir)
    assert {"samples", "generation-scores"} <= Checker(page).anchors
    assert "two small networks" in page


def test_best_of_each_column_is_marked(demo_dir):
    write_scores(demo_dir, mean={**MEAN, "psnr": 21.92})
    page = page_of(demo_dir)
    assert re.findall(r'class="best">([\d.]+)<', page) == ["0.842", "0.412", "21.92"]


def test_conclusions_follow_the_numbers(demo_dir):
    assert "worse in" not in page_of(demo_dir)
    write_scores(demo_dir, mean={**MEAN, "psnr": 21.92})
    assert (
        "is better in SSIM (0.842 against 0.412) and Fréchet distance (0.412 against 25.310); "
        "worse in PSNR (21.31 against 21.92 dB).</li>" in page_of(demo_dir)
    )


def test_compare_knows_directions_and_ties():
    one = ScoredModel(name="a", key="a", scores={"psnr": 20.0, "ssim": 0.50004, "rfd_mae": 2.0, "new": 1.0})
    other = ScoredModel(name="b", key="b", scores={"psnr": 19.0, "ssim": 0.50001, "rfd_mae": 1.0, "new": 2.0})
    assert compare(one, other) == {
        "better": ["PSNR (20.00 against 19.00 dB)"],
        "worse": ["Fréchet distance (2.000 against 1.000)"],
        "equal": ["SSIM (0.500)"],
    }


@pytest.mark.parametrize(
    "content",
    [
        "{",
        "[]",
        '{"rows": []}',
        '{"data": {}, "count": 1, "rows": [{"nom": 1}]}',
        '{"count": 1, "rows": [], "seconds": {}, "generation": {"rows": []}}',
    ],
)
def test_bad_scores_are_one_line(tmp_path, content):
    (tmp_path / "scores.json").write_text(content)
    with pytest.raises(UserError, match=r"scores\.json"):
        write_report(tmp_path)
    assert not (tmp_path / "report.html").exists()


def test_reconstructions_are_doubled_and_keep_their_place(tmp_path):
    path = tmp_path / "deep" / "rows.png"
    rows = [("first", solid(0, 50, 100)), ("second", solid(150, 200, 250))]
    assert draw_reconstructions(path, rows, columns=2) == path
    with Image.open(path) as picture:
        assert picture.mode == "RGB"
        areas = {value: count for count, value in picture.getcolors(10**6)}
        tops = {grey: _top(picture, grey) for grey in (0, 150, 100, 250)}
    for grey in (0, 50, 100, 150, 200, 250):
        assert areas[(grey,) * 3] >= 16 * 16  # an 8-px image, doubled
    assert tops[0] < tops[150] < tops[100] < tops[250]  # the third pair goes into a block below


def _top(picture, grey):
    return next(
        y
        for y in range(picture.height)
        if all(picture.getpixel((x, y)) == (grey,) * 3 for x in range(14, 22))
    )


def greys(path):
    with Image.open(path) as picture:
        return {value[0] for _, value in picture.getcolors(10**6) if len(set(value)) == 1}


def test_generation_pictures_hold_every_image(tmp_path):
    rows = [("a", solid(0, 40), solid(80)) for _ in range(2)]
    assert {0, 40, 80} <= greys(draw_classes(tmp_path / "a.png", rows))
    guided = [
        [("by class", [solid(grey), solid(grey + 1)]), ("internal", [solid(grey + 2), solid(grey + 3)])]
        for grey in (50, 60)
    ]
    assert {*range(50, 54), *range(60, 64)} <= greys(draw_guidance(tmp_path / "b.png", guided, ["a", "b"]))
    sample = ("a", solid(70, 80), solid(90, 100))
    assert {70, 80, 90, 100} <= greys(draw_denoising(tmp_path / "c.png", [1.0, 0.001], [sample]))
    block = ("t", solid(110), [solid(120), solid(130)])
    assert {110, 120, 130} <= greys(draw_nearest(tmp_path / "d.png", [block]))


def test_labels_stand_where_their_groups_begin():
    lines, picture = strip(("left", "right"), "all", groups=[solid(0, 1), solid(2)], gap_px=5)
    start = 2 * 10 + 2 + 5
    assert lines == [[(0, "left"), (start, "right")], [(0, "all")]]
    assert picture.getpixel((start + 4, 4)) == (2, 2, 2)


def test_growth_shows_the_first_row_of_each_grid(tmp_path):
    files = []
    for step, first in ((1, 0), (50, 100)):
        grid = image_grid(solid(*range(first, first + 16)), columns=8)
        files.append(save_png(tmp_path / f"step-{step:07d}.png", grid))
    shown = greys(draw_growth(tmp_path / "growth.png", files))
    assert {*range(0, 8), *range(100, 108)} <= shown
    assert not {*range(8, 16), *range(108, 116)} & shown
    assert draw_growth(tmp_path / "none.png", files[:1]) is None


def test_learning_needs_samples(tmp_path):
    assert draw_learning(tmp_path / "learning.png", []) is None


def test_moments_are_denser_early():
    assert choose_moments([1, *range(100, 1801, 100)], 5) == [1, 100, 500, 1000, 1800]
    assert choose_moments([5, 1], 5) == [1, 5]
    for count in range(6, 40):
        chosen = choose_moments(range(count), 5)
        assert len(set(chosen)) == 5
        assert (chosen[0], chosen[-1]) == (0, count - 1)


def test_curves_skip_what_was_not_logged():
    rows = [{"step": "1", "val/x": "2.5"}, {"step": "2", "val/x": ""}, {"step": "3", "val/x": "nan"}]
    assert read_curve(rows, "val/x", "x") == Curve(label="x", steps=(1,), values=(2.5,), points=True)
    assert read_curve(rows, "train/x", "x") is None


def test_smoothing_keeps_ends_and_lines():
    line = [float(i) for i in range(20)]
    assert smooth(line, 5) == pytest.approx(line)
    assert smooth([0.0, 3.0, 0.0], 3) == [0.0, 1.0, 0.0]


def test_a_panel_draws_zeros_too(tmp_path):
    curve = Curve(label="zero", steps=(1, 2), values=(0.0, 1.0))
    panel = Panel(name="p", ylabel="y", curves=(curve,))
    (tmp_path / "p.png").write_bytes(draw_panel(panel, LIGHT))
    with Image.open(tmp_path / "p.png") as picture:
        assert picture.size == (1024, 640)


def test_each_rate_says_what_it_is_of(demo_dir):
    """A part that was slowed for a while has a low rate over its whole time, and a usual one in the median."""
    scores = json.loads((demo_dir / "scores.json").read_text())
    scores["seconds"]["encoder"] = 400.0
    (demo_dir / "scores.json").write_text(json.dumps(scores))
    page = page_of(demo_dir)
    assert "<td>6 min 40 s<small>8 images/s</small></td> <td>630 images/s</td>" in page  # 50 × 64 in 400 s
    assert "The time is that of the whole part" in page


def test_the_two_distances_of_the_reconstructions_are_explained(demo_dir):
    add_generation(demo_dir)
    assert "two Fréchet distances" not in page_of(demo_dir), "there is one alone"
    scores = json.loads((demo_dir / "scores.json").read_text())
    row = {
        "key": "reconstructed",
        "name": "decoded",
        "scores": {**GENERATION["real"], "fd_mae": 0.171, "classified": 0.7},
    }
    scores["generation"]["rows"].insert(1, row)
    (demo_dir / "scores.json").write_text(json.dumps(scores))
    page = page_of(demo_dir)
    assert re.search(r"it is 0\.412: from the very pictures .* it is 0\.171: from the training", page)
    assert "through nothing are at 0.132 already" in page


def test_the_commands_say_which_figure_they_give(demo_dir):
    add_generation(demo_dir)
    page = page_of(demo_dir)
    assert "--metrics fd --num_samples 185 --cfg_scale 2.5 --num_steps 40</pre>" in page
    assert "Its figure is not that of the table" in page
    assert "evaluate.py" not in page, "other data than the bundled have no name for a command"
    scores = json.loads((demo_dir / "scores.json").read_text())
    scores["generation"]["reference"]["data"] = "emoji"
    (demo_dir / "scores.json").write_text(json.dumps(scores))
    again = f"--images {demo_dir}/samples --reference emoji --reference_split train --size 64 --encoder {demo_dir}/rae"
    assert f"python src/evaluate.py {again} --metrics fd</pre>" in page_of(demo_dir)
