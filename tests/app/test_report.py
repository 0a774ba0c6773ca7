"""The demo's report: complete, one file, and no claim that the numbers do not support."""

import csv
import json
import re
from html.parser import HTMLParser

import pytest
import torch
from PIL import Image

from unirae.app.report import draw_reconstructions, write_report
from unirae.app.report.pictures import choose_moments, draw_learning
from unirae.app.report.plots import LIGHT, Curve, Panel, draw_panel, read_curve, smooth
from unirae.app.report.scores import ScoredModel, compare
from unirae.core.errors import UserError
from unirae.core.images import image_grid, save_png

RAE = {"psnr": 21.312, "ssim": 0.842, "rfd_mae": 0.412}
RANDOM = {"psnr": 20.104, "ssim": 0.801, "rfd_mae": 1.932}
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
    write_run(folder / "random_encoder", decoder)
    for step in (1, 20, 40):
        grid = image_grid(torch.cat([solid(0, 10), solid(step, step)]), columns=2)
        save_png(folder / "rae/samples" / f"step-{step:07d}.png", grid)
    draw_reconstructions(folder / "pictures/reconstructions.png", [("originals", solid(1, 2))])
    return folder


def write_scores(folder, rae=RAE, random=RANDOM):
    rows = [
        {"name": "RAE, pretrained encoder", "key": "rae", "scores": rae},
        {"name": "RAE, random encoder", "key": "random_encoder", "scores": random},
        {"name": "mean colour", "key": "mean_colour", "scores": MEAN},
    ]
    content = {
        "data": {"name": "emoji"},
        "count": 186,
        "rows": rows,
        "settings": {"weights": "EMA"},
        "seconds": {"encoder": 131.0, "rae": 204.0, "random_encoder": 201.0},
        "parameters": {"encoder": 3_010_000},
        "machine": {"processor": "a <small> one"},
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "scores.json").write_text(json.dumps(content))


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
    page = path.read_text(encoding="utf-8")
    check = Checker(page)
    assert len(check.loaded) >= 2 + 3 * 2  # two pictures, three panels in light and dark
    assert all(uri.startswith("data:image/png;base64,iVBOR") for uri in check.loaded)
    assert all(check.alts)
    assert check.links == {f"#{anchor}" for anchor in check.anchors}
    assert "url(" not in page
    assert "$" not in re.sub(r"data:image/png;base64,[\w+/=]*", "", page)
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
    check = Checker(write_report(tmp_path).read_text(encoding="utf-8"))
    assert check.anchors == {"scores", "what", "cost", "next"}
    assert not check.loaded


def test_best_of_each_column_is_marked(demo_dir):
    write_scores(demo_dir, random={**RANDOM, "psnr": 21.92})
    page = write_report(demo_dir).read_text(encoding="utf-8")
    assert re.findall(r'class="best">([\d.]+)<', page) == ["0.842", "0.412", "21.92"]


def test_conclusions_follow_the_numbers(demo_dir):
    winning = write_report(demo_dir).read_text(encoding="utf-8")
    assert "worse in" not in winning
    assert "Where the random encoder is ahead" not in winning
    write_scores(demo_dir, random={**RANDOM, "psnr": 21.92})
    losing = write_report(demo_dir).read_text(encoding="utf-8")
    assert "worse in PSNR (21.31 against 21.92 dB)" in losing
    assert "Where the random encoder is ahead" in losing


def test_compare_knows_directions_and_ties():
    one = ScoredModel(name="a", key="a", scores={"psnr": 20.0, "ssim": 0.50004, "rfd_mae": 2.0, "new": 1.0})
    other = ScoredModel(name="b", key="b", scores={"psnr": 19.0, "ssim": 0.50001, "rfd_mae": 1.0, "new": 2.0})
    assert compare(one, other) == (
        "better in PSNR (20.00 against 19.00 dB); worse in Fréchet distance (2.000 against 1.000); "
        "equal in SSIM (0.500)"
    )


@pytest.mark.parametrize("content", ["{", '{"rows": []}', '{"data": {}, "count": 1, "rows": [{"nom": 1}]}'])
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


def test_learning_needs_samples(tmp_path):
    assert draw_learning(tmp_path / "learning.png", []) is None


def test_moments_are_denser_early():
    steps = {step: f"{step}.png" for step in [1, *range(100, 1801, 100)]}
    assert list(choose_moments(steps, 5)) == [1, 100, 500, 1000, 1800]
    assert list(choose_moments({1: "a", 5: "b"}, 5)) == [1, 5]


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
    panel = Panel(name="p", title="t", ylabel="y", caption="", curves=(curve,))
    (tmp_path / "p.png").write_bytes(draw_panel(panel, LIGHT))
    with Image.open(tmp_path / "p.png") as picture:
        assert picture.size == (1024, 640)
