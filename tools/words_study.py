"""From words to pictures on a laptop: does a generator read the names of emoji that it has never seen?

    python tools/words_study.py --demo outputs/demo --output outputs/words   # after `make demo`; 80 TFLOP of training
    python tools/words_study.py --demo DIR --output DIR --docs               # results, table and pages into docs/, too

Two generators of equal operations, on the demo's encoder and decoder: ``t2i_tiny``, which reads the names, and
``dit_demo`` for more steps, which is told the class. Each makes four samples for each of the 185 held-out emoji, with
every strength of guidance that is tried. The true picture is looked for among those nearest to a sample. A run that is
finished is not made again; results stand in words.json of the output folder.
"""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

import studies
from unirae.core.io import read_json, short_code, write_json

if TYPE_CHECKING:
    import torch

FIGURES = studies.ROOT / "docs/results/words.json"
IMAGES = studies.ROOT / "docs/images"
SAMPLES, POINTS = 4, 26
SCALES = (1.0, 2.0, 3.0, 4.0, 5.0)
QUIET = ["callbacks.samples.count=1", "callbacks.model_checkpoint.every_n_train_steps=200"]
TITLES = {
    "words": "names, by `t2i_tiny`",
    "class": "the class alone, of as many operations",
    "exchanged": "the same samples of names, exchanged within each class",
}


def train(demo: Path, folder: Path, seed: int) -> dict[str, Any]:
    """Train both generators for the operations of ``t2i_tiny``; what each took."""
    from unirae.app.config.composition import compose
    from unirae.app.demo.parts import check_dit_fits, train_part

    own = [
        f"model.rae.pretrained_decoder_path={demo / 'rae'}",
        f"data.latent_cache={folder / 'latents'}",
        *QUIET,
    ]
    steps = int(compose(["experiment=t2i_tiny"])["trainer"]["max_steps"])
    a_step = {name: studies.flop_of_a_step(name, own, folder) for name in ("t2i_tiny", "dit_demo")}
    lengths = {"t2i_tiny": steps, "dit_demo": round(steps * a_step["t2i_tiny"] / a_step["dit_demo"])}
    for name, count in lengths.items():
        check_dit_fits(folder, f"{name}-{seed}", rae=demo / "rae")
        train_part(name, folder / f"{name}-{seed}", [*own, f"trainer.max_steps={count}", f"seed={seed}"])
    return {
        name: {
            "steps": lengths[name],
            "gflop_a_step": round(a_step[name] / 1e9, 2),
            "tflop": round(a_step[name] * lengths[name] / 1e12, 1),
        }
        for name in lengths
    }


def samples(folder: Path, demo: Path, name: str, seed: int, what: Any, scale: float) -> "torch.Tensor":
    """Samples for every held-out picture, in 8 bits; kept."""
    import torch

    import unirae
    from unirae.core.images import to_uint8
    from unirae.core.io import file_sha256, load_tensors, save_tensors

    checkpoint = folder / f"{name}-{seed}/checkpoints/last.ckpt"
    dit, rae = unirae.load_dit(checkpoint), unirae.load_rae(demo / "rae")
    key = short_code([file_sha256(checkpoint), rae.fingerprint, repr(what), scale, SAMPLES, POINTS])
    kept = folder / f"samples/{name}-{seed}-{scale:g}-{key}.pt"
    if kept.is_file():
        return load_tensors(kept)["images"]
    asked = [one for one in what for _ in range(SAMPLES)]
    given: dict[str, Any] = {"prompts": asked} if dit.reads_text else {"labels": asked}
    images = to_uint8(
        unirae.sample(
            dit, rae, **given, cfg_scale=scale, num_steps=POINTS, batch_size=40, precision="bf16", seed=0
        )
    )
    save_tensors(kept, {"images": images})
    assert isinstance(images, torch.Tensor)
    return images


def score(demo: Path, folder: Path, seed: int) -> tuple[dict[str, Any], int]:
    """Retrieval by strength of guidance, for each way to say what is wanted; and the number of names."""
    import torch

    import unirae
    from unirae.app.demo.words import Named, retrieval_rows
    from unirae.app.run.builders import build_dataset
    from unirae.evaluation.passes.image_set import read_all
    from unirae.models.checkpoints.reading import open_checkpoint

    rae = unirae.load_rae(demo / "rae")
    data = open_checkpoint(demo / "rae", kind="stage1").config["data"]
    held_out = build_dataset(data, split="val", size=rae.output_size, use="eval")
    pictures = read_all(held_out)
    names = [held_out.source.captions_of(number)[0] for number in range(len(held_out))]
    meant = torch.arange(len(names)).repeat_interleave(SAMPLES)
    wanted = {"words": ("t2i_tiny", names), "class": ("dit_demo", pictures.labels.tolist())}
    found = {}
    for scale in SCALES:
        made = {
            kind: Named(prompts=names, images=samples(folder, demo, name, seed, what, scale), meant=meant)
            for kind, (name, what) in wanted.items()
        }
        found[f"{scale:g}"] = retrieval_rows(rae, pictures.images, pictures.labels, made)
    return found, len(names)


def best_scale(by_scale: dict[str, Any], kind: str) -> str:
    """The strength of guidance at which a kind of samples finds most: among the nearest 5, over both spaces."""

    def found(scale: str) -> float:
        row = next(row for row in by_scale[scale] if row["key"] == kind)
        return row["tokens"]["5"]["share"] + row["thumbnails"]["5"]["share"]

    return max(by_scale, key=found)


def table(result: dict[str, Any]) -> str:
    """Each kind at the guidance that suits it best, the exchanged names at that of the names."""
    by_scale = result["by_scale"]
    lines = [
        "| | guidance | tokens: 1 | 5 | 20 | thumbnails: 1 | 5 | 20 |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for kind, title in TITLES.items():
        scale = best_scale(by_scale, "words" if kind == "exchanged" else kind)
        row = next(row for row in by_scale[scale] if row["key"] == kind)
        cells = [
            f"{100 * row[space][k]['share']:.1f} ± {100 * row[space][k]['error']:.1f}"
            for space in ("tokens", "thumbnails")
            for k in ("1", "5", "20")
        ]
        lines.append(f"| {title} | {scale} | {' | '.join(cells)} |")
    count = result["count"]
    chance = " | ".join(f"{100 * k / count:.1f}" for _ in range(2) for k in (1, 5, 20))
    lines.append(f"| chance | | {chance} |")
    return "\n".join(lines) + "\n"


def draw(demo: Path, folder: Path, seed: int, scale: float) -> None:
    """Draw all held-out names, and thirty new prompts, as they come."""
    import torch

    import unirae
    from unirae.app.demo.words import NEW_PROMPTS, Named, draw_pairs, draw_prompts
    from unirae.app.run.builders import build_dataset
    from unirae.core.images import to_uint8
    from unirae.evaluation.passes.image_set import read_all
    from unirae.models.checkpoints.reading import open_checkpoint

    rae, dit = unirae.load_rae(demo / "rae"), unirae.load_dit(folder / f"t2i_tiny-{seed}")
    data = open_checkpoint(demo / "rae", kind="stage1").config["data"]
    held_out = build_dataset(data, split="val", size=rae.output_size, use="eval")
    names = [held_out.source.captions_of(number)[0] for number in range(len(held_out))]
    images = samples(folder, demo, "t2i_tiny", seed, names, scale)
    named = Named(prompts=names, images=images, meant=torch.arange(len(names)))
    page = draw_pairs(
        IMAGES / "words_held_out.jpg", read_all(held_out).images, named, count=len(names), columns=8
    )
    with Image.open(page) as drawn:
        smaller = drawn.resize((drawn.width * 3 // 5, drawn.height * 3 // 5), Image.Resampling.LANCZOS)
    smaller.save(page, quality=80)
    new = unirae.sample(dit, rae, prompts=NEW_PROMPTS, cfg_scale=scale, num_steps=POINTS, precision="bf16")
    draw_prompts(
        IMAGES / "words_new.jpg", Named(prompts=NEW_PROMPTS, images=to_uint8(new), meant=torch.tensor([]))
    )


def main() -> int:
    """Train, sample, score; show the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--demo", type=Path, default=Path("outputs/demo"), metavar="DIR")
    parser.add_argument("--output", type=Path, default=Path("outputs/words"), metavar="DIR")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--docs", action="store_true", help="results, table and pictures into docs/, too")
    options = parser.parse_args()
    training = train(options.demo, options.output, options.seed)
    by_scale, count = score(options.demo, options.output, options.seed)
    result = {
        "machine": studies.MACHINE,
        "seed": options.seed,
        "count": count,
        "samples_per_name": SAMPLES,
        "training": training,
        "by_scale": by_scale,
    }
    write_json(options.output / "words.json", result)
    print(table(result))
    if options.docs:
        write_json(FIGURES, result)
        studies.publish("words_study", table(read_json(FIGURES)))
        draw(options.demo, options.output, options.seed, float(best_scale(by_scale, "words")))
    return 0


if __name__ == "__main__":
    sys.exit(main())
