"""The sampler that the options of a command mean: networks opened and checked, settings described."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unirae.core.errors import ConfigError, WeightsError

if TYPE_CHECKING:
    import torch

    from unirae.app.inputs.prompt_list import PromptList
    from unirae.app.inputs.sampler_options import CommonSamplingOptions, SamplerOptions
    from unirae.evaluation.sampling.image_sampler import ImageSampler
    from unirae.evaluation.sampling.requests import RequestRule
    from unirae.evaluation.sampling.settings import SamplerSettings
    from unirae.models.checkpoints.reading import Checkpoint
    from unirae.models.denoisers.base import Denoiser


_BY_CHECKPOINT = (
    "num_steps",
    "solver",
    "cfg_scale",
    "guidance_interval",
    "time_grid",
    "ig_scale",
    "ig_interval",
    "ig_unconditional_scale",
)
"""Options whose default a checkpoint may know."""

_WORTH_COMPILING = 5000
"""Evaluations of the network from which on compiling it pays."""


PromptsFor = Callable[[dict[str, Any]], "PromptList"]
"""Prompts for a checkpoint, given what it says of itself."""


@dataclass(frozen=True, kw_only=True)
class Generator:
    """A stage-2 checkpoint, ready to sample.

    Attributes:
        checkpoint: the checkpoint's file.
        about: the checkpoint's description of itself.
        settings: everything that decides the samples, as plain values.
    """

    sampler: "ImageSampler"
    checkpoint: Path
    about: dict[str, Any]
    settings: dict[str, Any]


def open_generator(
    options: "SamplerOptions",
    device: "torch.device",
    *,
    labels: str | None = None,
    prompts: "PromptList | PromptsFor | None" = None,
    with_encoder: bool = False,
    encoder_weights: str | None = None,
) -> Generator:
    """Open everything that the options name.

    Args:
        labels: numbers or class names, comma-separated, to go round.
        prompts: of a model that is conditioned on text; or what gives them, given what the checkpoint says of itself,
            and is asked only then.
        with_encoder: also load the RAE's encoder, which sampling does not need.
        encoder_weights: the place of the encoder's weights, if it is not the one in the RAE's checkpoint.

    Raises:
        ConfigError: If options, labels or prompts do not fit the model.
        WeightsError: If a checkpoint is missing, damaged, or of another kind or model.
    """
    from unirae.evaluation.sampling.image_sampler import ImageSampler
    from unirae.models.checkpoints.opening import dit_from_checkpoint, rae_of_dit
    from unirae.models.checkpoints.reading import open_checkpoint

    if options.ema_decay is not None and not options.use_ema:
        raise ConfigError("--ema_decay chooses an average, --use_ema false takes none; leave one out")
    checkpoint = open_checkpoint(options.checkpoint, kind="stage2")
    file, about = checkpoint.file, checkpoint.about
    dit = dit_from_checkpoint(checkpoint, ema=options.use_ema, ema_decay=options.ema_decay).to(device)
    rae = rae_of_dit(
        checkpoint, rae=options.rae, encoder_weights=encoder_weights, with_encoder=with_encoder
    ).to(device)
    guide, guide_identity = _open_guide(_guide_of(options, file, about), dit, device, about["class_names"])
    how = sampler_settings(options, about.get("sampling"))
    rule = _rule(options, checkpoint, dit, labels=labels, prompts=prompts)
    sampler = ImageSampler(
        dit=dit,
        rae=rae,
        guide=guide,
        settings=how,
        rule=rule,
        seed=options.seed,
        batch_size=options.batch_size,
        precision=options.precision,
    )
    settings = {
        **identity(file, about),
        "weights": _weights(options, about),
        "rae": about["rae"]["fingerprint"],
        "guide": guide_identity,
        **sampler.describe(),
        "device": device.type,
    }
    generator = Generator(sampler=sampler, checkpoint=file, about=about, settings=settings)
    check_null_label(generator, [sampler.settings.cfg_scale])
    return generator


def _rule(
    options: "SamplerOptions",
    checkpoint: "Checkpoint",
    dit: "Denoiser",
    *,
    labels: str | None,
    prompts: "PromptList | PromptsFor | None",
) -> "RequestRule":
    """What the image of each number is to show: labels, or prompts, as the model was trained."""
    from unirae.app.inputs.labels import parse_labels
    from unirae.evaluation.sampling.requests import LabelRule
    from unirae.evaluation.sampling.wanted import text_encoder_for

    if not dit.reads_text:
        for flag, is_given in (
            ("--text_encoder", options.text_encoder is not None),
            ("--prompt", prompts is not None and not callable(prompts)),
            ("--prompts", getattr(options, "prompts", None) is not None),
        ):
            if is_given:
                raise ConfigError(
                    f"{flag}: {checkpoint.file} was trained on labels, not on captions; see --labels"
                )
        given = (
            parse_labels(labels, checkpoint.about["class_names"], num_classes=dit.num_classes)
            if labels
            else ()
        )
        return LabelRule(
            num_classes=dit.num_classes, sampling=options.label_sampling, seed=options.seed, given=given
        )
    if labels is not None:
        raise ConfigError(
            f"--labels {labels}: {checkpoint.file} was trained on captions; give --prompt or --prompts"
        )
    if prompts is None:
        raise ConfigError(f"{checkpoint.file} was trained on captions: give --prompt TEXT or --prompts FILE")
    prompts = prompts(checkpoint.about) if callable(prompts) else prompts
    encoder = text_encoder_for(dit, name=options.text_encoder)
    return prompts.rule(encoder.encode, seed=options.seed)


def sampler_settings(options: "SamplerOptions", said: dict[str, Any] | None) -> "SamplerSettings":
    """The sampler's settings: from the options, else from the checkpoint, else its defaults."""
    from unirae.evaluation.sampling.settings import SamplerSettings

    own: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in (said or {}).items()
        if name in _BY_CHECKPOINT
    }
    given = {name: getattr(options, name) for name in _BY_CHECKPOINT if getattr(options, name) is not None}
    fixed: dict[str, Any] = {
        name: getattr(options, name) for name in ("time_shift", "trunk_every", "clamp_velocity")
    }
    return SamplerSettings(**fixed, **(own | given))


def check_null_label(generator: Generator, cfg_scales: Sequence[float]) -> None:
    """Refuse guidance by the null label where it was never trained.

    Raises:
        ConfigError: If the null label was never trained, a scale is not 1, and there is no guide.
    """
    trained = (generator.about.get("origin") or {}).get("has_null_label", True)
    if not trained and generator.sampler.guide is None and any(scale != 1 for scale in cfg_scales):
        raise ConfigError(
            f"--cfg_scale {' '.join(f'{scale:g}' for scale in cfg_scales)}: this model was trained without label "
            "dropout (class_dropout_prob 0) and has no null label; give 1, or a guide with --guide_checkpoint"
        )


def with_sampler_settings(generator: Generator, settings: "SamplerSettings") -> Generator:
    """The same networks, sampled in another way."""
    sampler = replace(generator.sampler, settings=settings, evaluations=set())
    return replace(generator, sampler=sampler, settings={**generator.settings, **sampler.describe()})


def compiled(
    generator: Generator, options: "CommonSamplingOptions", count: int, device: "torch.device"
) -> Generator:
    """The same networks, compiled where the options say so for that many images, and in memory in 16 bits alone.

    Raises:
        ConfigError: If compilation is asked for and does not work here.
    """
    from unirae.core.hardware import compiler_problem
    from unirae.core.log import get_logger
    from unirae.nn.kernels.block_compiler import BlockCompiler

    sampler = generator.sampler
    evaluations = -(-count // sampler.batch_size) * len(sampler.settings.times(sampler.dit))
    if options.compile == "false" or (options.compile == "auto" and evaluations < _WORTH_COMPILING):
        return generator
    if problem := compiler_problem(device):
        if options.compile == "true":
            raise ConfigError(f"--compile true: torch.compile does not work here ({problem})")
        get_logger(__name__).warning(
            "the network runs as it is, which is slower: torch.compile does not work here (%s)", problem
        )
        return generator
    compiler = BlockCompiler(sampler.dit, sampler.guide, sampler.rae.decoder)
    return replace(generator, sampler=replace(sampler, compiler=compiler).for_many())


def labels_of(generator: Generator, count: int) -> list[int]:
    """The label of each image; those of prompts are 0."""
    import torch

    from unirae.evaluation.sampling.requests import LabelRule

    rule = generator.sampler.rule
    return rule(torch.arange(count)).tolist() if isinstance(rule, LabelRule) else [0] * count


def describe_program(generator: Generator, device: "torch.device") -> dict[str, Any]:
    """The checkpoint's path, and the circumstances that may change the last digits."""
    import torch

    from unirae.core.version import __version__

    return {
        "checkpoint": str(generator.checkpoint),
        "cpu_threads": torch.get_num_threads() if device.type == "cpu" else None,
        "float32_matmul": torch.get_float32_matmul_precision(),
        "compiled": generator.sampler.compiler is not None,
        "versions": {"unirae": __version__, "torch": str(torch.__version__)},
    }


def identity(file: Path, about: dict[str, Any]) -> dict[str, Any]:
    """The identity of a network: its file's hash, and the version, commit and step that it was trained with."""
    from unirae.core.io import file_sha256

    return {
        "checkpoint_sha256": file_sha256(file),
        "trained_with": {key: about[key] for key in ("version", "commit", "step")},
    }


def _guide_of(options: "SamplerOptions", file: Path, about: dict[str, Any]) -> Path | None:
    """The guide: the one of the option, or the one that the checkpoint names beside itself; ``none`` takes none."""
    if options.guide_checkpoint is not None:
        return None if str(options.guide_checkpoint) == "none" else options.guide_checkpoint
    guide = (about.get("sampling") or {}).get("guide")
    return None if guide is None else file.parent / guide


def _open_guide(
    path: Path | None, dit: "Denoiser", device: "torch.device", class_names: Sequence[str]
) -> "tuple[Denoiser | None, dict[str, Any] | None]":
    from unirae.core.differences import different_classes
    from unirae.models.checkpoints.opening import dit_from_checkpoint
    from unirae.models.checkpoints.reading import open_checkpoint

    if path is None:
        return None, None
    checkpoint = open_checkpoint(path, kind="stage2")
    file = checkpoint.file
    guide = dit_from_checkpoint(checkpoint).to(device)
    if guide.latent_shape == dit.latent_shape and guide.latent_stats.sha256 != dit.latent_stats.sha256:
        raise WeightsError(
            f"the guide {file} was trained on latents normalised by other statistics than the model's; a guide must "
            "be trained on the same latents"
        )
    named = checkpoint.about["class_names"]
    if len(named) == len(class_names) and list(named) != list(class_names):
        raise WeightsError(
            f"the guide {file} was trained with other classes than the model: {different_classes(named, class_names)}; "
            "a guide must be trained on the same labels"
        )
    return guide, identity(file, checkpoint.about)


def _weights(options: "SamplerOptions", about: dict[str, Any]) -> str:
    decay = about["ema"]["ema"] if options.ema_decay is None else options.ema_decay
    if not options.use_ema or about.get("exported_weights") == "model":
        return "raw"
    return "EMA" if decay is None else f"EMA {decay}"  # of a converted model, whose decay nobody wrote down
