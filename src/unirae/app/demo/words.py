"""From words to pictures: samples of held-out names and of new prompts, and how well the words are met.

The text encoder has seen no pictures, so how well a sample fits its name is asked of the pictures: is the true one of a
held-out name among those that lie nearest to the sample (:mod:`unirae.evaluation.judges.retrieval`)?
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unirae.app.demo.parts import timed
from unirae.core.log import get_logger

if TYPE_CHECKING:
    from torch import Tensor

    from unirae.app.demo.generator import Trained
    from unirae.app.demo.options import Options
    from unirae.evaluation.judges.retrieval import Share
    from unirae.models.rae import RAE

log = get_logger(__name__)

PART, EXPERIMENT = "words", "t2i_tiny"
"""The folder and the experiment of the part that trains on names."""
CFG_SCALE = 4.0
"""Strength of guidance by words."""
SAMPLES_PER_NAME = 2
NEW_PROMPTS = (
    "a blue tomato",
    "a cat wearing glasses",
    "flag with a star",
    "a green heart with an arrow",
    "a red car",
    "a yellow fish",
    "a crying robot",
    "a smiling sun with sunglasses",
    "a purple apple",
    "a black cat face",
    "a woman with blue hair",
    "a man in a green shirt reading a book",
    "a small house in the snow",
    "a pink elephant",
    "a slice of cake with a candle",
    "a bottle of milk",
    "a broken clock",
    "a round blue button with the letter Q",
    "a sign that forbids bicycles",
    "an orange square",
    "a tree with red leaves",
    "a dog face with its tongue out",
    "a bunch of bananas and grapes",
    "a train at night",
    "a golden cup",
    "a flag of red, white and green stripes",
    "an angry green face",
    "two people dancing",
    "a white horse",
    "a guitar on fire",
)
"""Thirty prompts, written before any was sampled; those of :data:`KNOWN` are emoji in other words."""
KNOWN = {
    "an orange square": "orange square",
    "a sign that forbids bicycles": "no bicycles",
    "a black cat face": "black cat",
}
"""The prompts that name an emoji of the training pictures, and that emoji's name."""
_COLUMNS = 6


@dataclass(frozen=True, kw_only=True)
class Named:
    """Samples of prompts.

    Attributes:
        meant: for each the number of the held-out picture whose name, or class, it was made for; empty for prompts that
            no picture has.
    """

    prompts: Sequence[str]
    images: "Tensor"
    meant: "Tensor"


def score_words(options: "Options", trained: "Trained") -> dict[str, Any]:
    """Sample the held-out names and the new prompts, score and draw them; the content of ``scores.json`` for them.

    The generator by class is the demo's own, which had fewer operations of training (``tools/words_study.py`` has one
    of as many).
    """
    folder = trained.folder
    names = held_out_names(trained)
    held_out = sample_prompts(options, names, folder=folder / "words_samples/held_out", each=SAMPLES_PER_NAME)
    new = sample_prompts(options, NEW_PROMPTS, folder=folder / "words_samples/new", each=1)
    rows = retrieval_rows(
        trained.rae,
        trained.held_out.images,
        trained.held_out.labels,
        {"words": held_out, "class": by_class(trained)},
    )
    draw_pairs(folder / "pictures/words_held_out.png", trained.held_out.images, held_out, count=36)
    draw_prompts(folder / "pictures/words_new.png", new)
    return {
        "rows": rows,
        "count": len(names),
        "samples_per_name": SAMPLES_PER_NAME,
        "cfg_scale": CFG_SCALE,
        "text_encoder": text_encoder_name(folder / PART),
    }


def held_out_names(trained: "Trained") -> list[str]:
    """The names of the held-out pictures, in their order."""
    from unirae.app.run.builders import build_dataset
    from unirae.models.checkpoints.reading import open_checkpoint

    data = open_checkpoint(trained.folder / "rae", kind="stage1").config["data"]
    source = build_dataset(data, split="val", size=trained.rae.output_size, use="eval").source
    return [source.captions_of(number)[0] for number in range(len(source))]


def text_encoder_name(folder: Path) -> str:
    """The name of the text encoder that a run was trained with."""
    from unirae.models.checkpoints.reading import open_checkpoint

    return open_checkpoint(folder, kind="stage2").about["dit"]["text_encoder"]["name"]


def sample_prompts(options: "Options", prompts: Sequence[str], *, folder: Path, each: int) -> Named:
    """Samples of prompts, in a folder as sample_dit.py makes it; those of another checkpoint or settings are redone."""
    import torch

    from unirae.app.demo.generator import precision_of, samples_in
    from unirae.app.inputs.generator import open_generator
    from unirae.app.inputs.prompt_list import PromptList
    from unirae.app.inputs.prompts import Prompt
    from unirae.app.inputs.sampler_options import SamplerOptions
    from unirae.app.pictures.sample_folder import SampleFolder

    listed = PromptList(prompts=[Prompt(text=text) for text in prompts], images_per_prompt=each)
    sampler = SamplerOptions(
        checkpoint=options.folder / PART,
        rae=options.folder / "rae",
        cfg_scale=CFG_SCALE,
        num_steps=options.num_steps or options.length.num_steps,
        seed=options.seed,
        batch_size=min(40, len(listed)),
        precision=precision_of(folder),
        device="cpu",
    )
    generator = open_generator(sampler, torch.device("cpu"), prompts=listed)
    size = generator.sampler.rae.output_size
    target = SampleFolder.of_prompts(
        folder, settings=generator.settings, prompts=listed, layout="plain", size=size
    )
    if target.is_complete(range(target.count)):
        images = samples_in(target, generator)
    else:
        with timed(options.folder, "words_samples", add=True):
            images = samples_in(target, generator)
    return Named(prompts=list(prompts), images=images, meant=torch.arange(len(listed)) // each)


def by_class(trained: "Trained") -> Named:
    """The samples of the generator by class, each for the held-out picture whose class it was made for."""
    from unirae.app.demo.generator import order_round

    return Named(prompts=[], images=trained.samples.images, meant=order_round(trained.held_out.labels))


def retrieval_rows(
    rae: "RAE", bank: "Tensor", labels: "Tensor", made: dict[str, Named]
) -> list[dict[str, Any]]:
    """How often the meant picture is among the nearest, for each kind of samples, and for exchanged names.

    Args:
        bank: the held-out pictures.
        labels: their classes.
        made: samples by kind; of those by words the names are exchanged within each class, too.
    """
    from unirae.evaluation.judges.nearest import token_vectors
    from unirae.evaluation.judges.retrieval import exchanged_within_classes, thumbnails

    spaces = {"tokens": lambda images: token_vectors(rae, images), "thumbnails": thumbnails}
    banks = {space: vectors(bank) for space, vectors in spaces.items()}
    partner, rows = exchanged_within_classes(labels), []
    for kind, named in made.items():
        own = {space: vectors(named.images) for space, vectors in spaces.items()}
        meanings = {kind: named.meant}
        if kind == "words":
            meanings["exchanged"] = partner[named.meant]
        for key, meant in meanings.items():
            rows.append({"key": key, **{space: _shares(own[space], banks[space], meant) for space in spaces}})
    return rows


def _shares(samples: "Tensor", bank: "Tensor", meant: "Tensor") -> dict[str, dict[str, float]]:
    from unirae.evaluation.judges.retrieval import ranks, shares_within

    found: dict[int, Share] = shares_within(ranks(samples, bank, meant), meant)
    return {str(k): {"share": share.value, "error": share.error} for k, share in found.items()}


def draw_pairs(path: Path, bank: "Tensor", named: Named, *, count: int, columns: int = _COLUMNS) -> Path:
    """Draw held-out pictures, evenly spread, each with the first sample of its name beside it and the name below."""
    import torch

    chosen = [i * len(named.prompts) // count for i in range(count)]
    each = len(named.images) // len(named.prompts)
    pairs = torch.stack([torch.cat([bank[i], named.images[i * each]], dim=2) for i in chosen])
    return _draw(path, pairs, [named.prompts[i] for i in chosen], columns=columns)


def draw_prompts(path: Path, named: Named) -> Path:
    """Draw the first sample of each prompt with the words below it."""
    each = len(named.images) // len(named.prompts)
    return _draw(path, named.images[::each], named.prompts, columns=_COLUMNS)


def _draw(path: Path, images: "Tensor", words: Sequence[str], *, columns: int) -> Path:
    from unirae.app.pictures.captioned_grid import captioned_grid
    from unirae.core.io import write_atomically

    picture = captioned_grid(images, list(words), columns=columns)
    kind = "JPEG" if path.suffix == ".jpg" else "PNG"
    return write_atomically(path, lambda file: picture.save(file, format=kind, quality=85))
