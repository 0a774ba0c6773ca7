"""``unirae COMMAND …``: the entry scripts of ``src/`` for users of the wheel."""

import importlib
import sys

COMMANDS = {
    "demo": "train encoder, autoencoder and generator on the bundled images, sample, and write a report",
    "train": "train an experiment: unirae train experiment=NAME [key=value …]",
    "compute-stats": "latent statistics of a stage-1 checkpoint, into a copy of it",
    "evaluate": "score images from anywhere, or a checkpoint, against a reference",
    "make-reference": "statistics of images into one file, to compare others with",
    "eval-rfid": "score a checkpoint's reconstructions",
    "diagnose-rae": "what a decoder makes of imperfect latents: will it generate well",
    "eval-fid": "sample from a stage-2 checkpoint and score the samples",
    "sweep-guidance": "score samples over guidance, steps, solvers and averages; a table and a plot",
    "compare": "two results side by side: is the difference larger than chance, may they be compared",
    "eval-linear-probe": "score an encoder: a linear classifier and nearest neighbours on its features",
    "sample-dit": "sample images from a stage-2 checkpoint",
    "reconstruct": "reconstruct your own images with a checkpoint",
    "compare-run": "a run's curves beside those of healthy runs, or of another run",
    "convert": "models of the official RAE code or of diffusers, in and out",
    "export": "a trained model as a folder for inference, with a model card; to the hub, if wished",
    "describe-encoder": "an encoder's numbers and the shapes that follow: tokens, outputs, time shift",
    "fetch-weights": "fetch what an experiment loads, for a machine without a network",
    "prepare-data": "convert an image folder or tar to the Hugging Face datasets format",
}


def main() -> int:
    """Dispatch to ``unirae.app.<command>``; each command has a ``--help`` of its own."""
    if len(sys.argv) < 2 or sys.argv[1] in ("-h", "--help"):
        listing = "\n".join(f"  {name:18} {what}" for name, what in COMMANDS.items())
        sys.stdout.write(
            f"usage: unirae COMMAND [options]\n\n{listing}\n\nunirae COMMAND --help tells more.\n"
        )
        return 0
    command = sys.argv[1].replace("_", "-")  # as the scripts of src/ are called
    if command in ("-V", "--version"):
        from unirae.core.version import __version__

        sys.stdout.write(f"unirae {__version__}\n")
        return 0
    if command not in COMMANDS:
        sys.stderr.write(f"error: unknown command {sys.argv[1]!r}; choose one of {', '.join(COMMANDS)}\n")
        return 2
    sys.argv = [f"unirae {command}", *sys.argv[2:]]
    return importlib.import_module(f"unirae.app.{command.replace('-', '_')}").main()


if __name__ == "__main__":
    raise SystemExit(main())
