"""``python src/eval_linear_probe.py --encoder_checkpoint C``: how well classes can be read from features."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from unirae.app.config.schema.kinds import Count, OutputFile, Pixels, Positive, Range, Seed
from unirae.app.inputs.encoder import EncoderKind
from unirae.app.inputs.options import DataOptions, DeviceOptions
from unirae.app.shell.argument_names import WITH_DATA_DIR
from unirae.app.shell.options import Flag, Switch, command
from unirae.core.errors import ConfigError

if TYPE_CHECKING:
    from unirae.app.inputs.encoder import EncoderSource
    from unirae.data.dataset import ImageDataset
    from unirae.evaluation.probe.features import Features, Pooled
    from unirae.evaluation.probe.head_search import ProbeSettings
    from unirae.evaluation.probe.linear_probe import ProbeResult

_BASELINES = ("random", "pixels")


@dataclass(frozen=True, kw_only=True)
class Options(DataOptions, DeviceOptions):
    """Fit a linear classifier on the features of a frozen encoder, and ask nearest neighbours: top-1, top-5, k-NN.

    Features of both splits are computed once and cached. Weight decay (and with SGD the learning rate) is chosen on a
    held-out part of the training split; the validation split is scored once. The same is done for a random encoder of
    the same shape and for raw pixels, to show what pretraining gave.
    """

    encoder_checkpoint: str
    """A checkpoint of stage 1 or 2 or its run's folder; a folder with config.json and model.safetensors, such as
    outputs/demo/encoder; a name on the Hugging Face hub; with --kind timm a model of timm; or: pixels."""
    data: str | None = None
    """emoji, photos, hf, image_folder, tar_shards, synthetic, or a folder. Default: what the encoder's run was
    trained on."""
    pooling: Literal["avg", "cls", "both"] = "avg"
    """Features of an image: the mean of the patch tokens (avg), the class token (cls), or both side by side."""
    optimizer: Literal["lbfgs", "sgd"] = "lbfgs"
    """lbfgs finds the minimum, in float64; sgd is for more features than memory holds in float64."""
    learning_rates: str = "0.003,0.01,0.03,0.1"
    """Candidates for sgd's learning rate, comma-separated."""
    weight_decays: str = "0.00001,0.0001,0.001,0.01,0.1,1"
    """Candidates for the weight decay, comma-separated. Features are standardised."""
    held_out: Annotated[float, Range(0, 1, open_low=True, open_high=True)] = 0.2
    """Share of each class of the training split on which the candidates are compared."""
    epochs: Count = 50
    """Epochs of sgd."""
    k: Count = 20
    """Neighbours that vote in k-NN."""
    temperature: Positive = 0.07
    """Temperature of k-NN's votes, which weigh exp(cosine / temperature)."""
    baselines: str = "random,pixels"
    """Baselines to probe as well, comma-separated: random (an untrained encoder), pixels; or none."""
    pixels_px: Pixels = 16
    """Larger images are averaged down to this side for pixels."""
    input_size: Pixels | None = None
    """Pixels of the encoder's input, to which images are centre-cropped. Default: the encoder's own."""
    kind: EncoderKind | None = None
    """Kind of an encoder that is no checkpoint of ours. Default: as its config.json says."""
    encoder_name: str | None = None
    """Name of the timm model, where the weights are a file."""
    encoder_weights: str | None = None
    """The weights of a checkpoint's encoder, a folder or file. Default: where the checkpoint says."""
    cache: Switch = True
    """Keep features in files, and use them the next time."""
    verify_contents: Flag = False
    """Recognise kept features by every byte of the images' files, even where there are many (docs/data.md)."""
    cache_dir: Path | None = None
    """The folder of kept features. Default: the environment's UNIRAE_CACHE_DIR, or ~/.cache/unirae."""
    output: OutputFile | None = None
    """The JSON file; the confusion matrix lies beside it as PNG. Default: eval/linear-probe-….json in the run's
    folder, or outputs/linear_probe/ where there is none."""
    batch_size: Count = 64
    """Images in a batch. No score depends on it."""
    seed: Seed = 0
    """Seed of the held-out part, of sgd's batches and of the random encoder."""


@dataclass(frozen=True, kw_only=True)
class Report:
    """The result of the command."""

    result: "ProbeResult"
    baselines: "dict[str, ProbeResult]"
    class_names: tuple[str, ...]


def run(options: Options) -> Report:
    """Probe, write the JSON file and the picture, show the table."""
    from unirae.app.inputs.encoder import find_encoder
    from unirae.app.pictures.confusion import save_confusion
    from unirae.core.distributed import is_main
    from unirae.core.log import get_logger
    from unirae.evaluation.probe.linear_probe import write_probe

    settings = _settings(options)
    with options.computing() as device:
        source = find_encoder(
            options.encoder_checkpoint,
            kind=options.kind,
            model_name=options.encoder_name,
            weights=options.encoder_weights,
        )
        report = evaluate(options, source, settings, device)
        if is_main():
            output = options.output or _default_output(source, options, report)
            _show(report)  # first: these scores took long, and the disk may be full
            for warning in report.result.warnings:
                get_logger(__name__).warning(warning)
            write_probe(output, report.result, baselines=report.baselines)
            picture = output.with_suffix(".png")
            save_confusion(picture, report.result.confusion, report.class_names)
            get_logger(__name__).info("scores and settings: %s; confusion matrix: %s", output, picture)
    return report


main = command(
    Options,
    run,
    kept="no scores were written; features that were finished stay in the cache. Repeat the command",
    names=WITH_DATA_DIR,
)


def evaluate(options: Options, source: "EncoderSource", settings: "ProbeSettings", device: Any) -> Report:
    """Compute the features and fit the probes that the options ask for."""
    import torch

    from unirae.app.run.builders import build_dataset
    from unirae.app.shell.devices import choose_data
    from unirae.core.version import __version__
    from unirae.data.source_content import recorded
    from unirae.evaluation.probe.features import check_classes
    from unirae.evaluation.probe.linear_probe import evaluate_probe

    if options.data is None and source.data is None:
        raise ConfigError(
            f"{options.encoder_checkpoint} does not say what to probe it on; choose with --data"
        )
    size = options.input_size or source.input_size or options.pixels_px
    trained_on = (source.data or {}) if options.data is None else {}
    data = choose_data(options.data, options.data_dir, trained_on, split="train")
    splits = [build_dataset(data, split=split, size=size, use="eval") for split in ("train", "val")]
    num_classes = max(map(check_classes, splits))
    about = {
        "encoder_checkpoint": options.encoder_checkpoint,
        **source.about,
        "input_size_px": size,
        "crop": data["eval_transform"]["_target_"],
        "data": splits[1].source.name,
        "fingerprints": {"train": recorded(splits[0].source), "val": recorded(splits[1].source)},
        "device": device.type,
        "versions": {"unirae": __version__, "torch": torch.__version__},
    }
    results = {}
    for name, network in _networks(source, options, device).items():
        training, validation = _features(network, splits, options, device)
        results[name] = evaluate_probe(
            training,
            validation,
            num_classes=num_classes,
            settings=settings,
            device=device,
            about={**about, "features": network.identity, "content_sha256": _pixels(training, validation)},
        )
    if source.encoder is not None and source.encoder.identity.weights == "random":
        results["encoder"].warnings.append(
            "the encoder's own weights are random: there is no pretraining to see"
        )
    return Report(
        result=results.pop("encoder"), baselines=results, class_names=tuple(splits[0].source.class_names)
    )


def _pixels(training: "Features", validation: "Features") -> str:
    """A hash that names the pixels of both splits."""
    from unirae.core.io import sha256_of_text

    return sha256_of_text(f"{training.content_sha256}/{validation.content_sha256}")


def _networks(source: "EncoderSource", options: Options, device: Any) -> "dict[str, Pooled]":
    """The networks to probe: the encoder (or pixels in its place) and the baselines."""
    from unirae.evaluation.probe.features import PooledEncoder, RawPixels
    from unirae.models.encoders.build import build_encoder

    pixels, encoder = RawPixels(side_px=options.pixels_px), source.encoder
    if encoder is None:
        return {"encoder": pixels}
    networks: dict[str, Pooled] = {"encoder": PooledEncoder(encoder.to(device), options.pooling)}
    for name in _chosen_baselines(options):
        networks[name] = pixels
        if name == "random":
            of = encoder.identity
            twin = build_encoder(
                kind=of.kind,
                name=of.name,
                weights="random",
                architecture=of.config,
                seed=options.seed,
                mean=of.pixel_mean,
                std=of.pixel_std,
                **of.reading,
            )
            networks[name] = PooledEncoder(twin.to(device), options.pooling)
    return networks


def _features(
    network: "Pooled", splits: "list[ImageDataset]", options: Options, device: Any
) -> "list[Features]":
    """The features of the training and the validation split."""
    from unirae.app.shell.devices import progress_bar, reader_processes
    from unirae.core.cache import cache_dir as default_cache_dir
    from unirae.evaluation.probe.features import cached_features

    cache_dir = (options.cache_dir or default_cache_dir()) if options.cache else None
    features = []
    for split, dataset in zip(("training", "validation"), splits, strict=True):
        with progress_bar(f"{network.identity['kind']}, {split} split", rate="images/s") as progress:
            features.append(
                cached_features(
                    network,
                    dataset,
                    cache_dir=cache_dir,
                    batch_size=options.batch_size,
                    device=device,
                    num_workers=reader_processes(options.num_workers, len(dataset)),
                    progress=progress,
                )
            )
    return features


def _settings(options: Options) -> "ProbeSettings":
    from unirae.evaluation.probe.head_search import ProbeSettings
    from unirae.evaluation.probe.knn import KnnSettings
    from unirae.evaluation.probe.linear_heads import SgdSettings

    _chosen_baselines(options)  # before anything costs time
    return ProbeSettings(
        optimizer=options.optimizer,
        learning_rates=_numbers("learning_rates", options.learning_rates),
        weight_decays=_numbers("weight_decays", options.weight_decays),
        held_out=options.held_out,
        seed=options.seed,
        sgd=SgdSettings(epochs=options.epochs),
        knn=KnnSettings(k=options.k, temperature=options.temperature),
    )


def _numbers(option: str, text: str) -> tuple[float, ...]:
    try:
        return tuple(float(word) for word in text.split(","))
    except ValueError:
        raise ConfigError(f"--{option} {text}: give numbers with commas between, such as 0.01,0.1") from None


def _chosen_baselines(options: Options) -> list[str]:
    names = [] if options.baselines == "none" else options.baselines.split(",")
    if unknown := [name for name in names if name not in _BASELINES]:
        raise ConfigError(f"--baselines {unknown[0]} is unknown; choose of {', '.join(_BASELINES)}, or none")
    return names


def _default_output(source: "EncoderSource", options: Options, report: Report) -> Path:
    """``eval/linear-probe-….json``; a hash of everything that decides the scores tells others apart."""
    from unirae.core.io import short_code

    settings = report.result.settings
    decisive = {key: value for key, value in settings.items() if key not in _NOT_DECISIVE}
    code = short_code([decisive, *report.baselines])
    pooling = "" if source.encoder is None else f"-{options.pooling}"
    name = f"linear-probe-{source.name}-{settings['data']}{pooling}-{code}.json"
    return source.folder / "eval" / name


_NOT_DECISIVE = (
    *("encoder_checkpoint", "checkpoint", "encoder", "trained_with"),  # the hash of the weights says which
    *("device", "versions", "chosen", "tried"),
)
"""Settings that are no part of the hash: they change names or last digits, or are results."""


def _show(report: Report) -> None:
    from rich.console import Console
    from rich.table import Table

    results = {"encoder": report.result, **report.baselines}
    table = Table(
        "", *report.result.metrics, title=f"{report.result.count} images of {report.result.settings['data']}"
    )
    for name, result in results.items():
        scores = [f"{100 * p:.1f} ± {100 * result.uncertainty[m]:.1f} %" for m, p in result.metrics.items()]
        table.add_row(name, *scores)
    Console().print(table)
