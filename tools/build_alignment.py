"""Write docs/alignment.md: every parameter of both stages beside the official one.

    python tools/build_alignment.py                        # write
    python tools/build_alignment.py --check                # exit 1 where the file is stale
    python tools/build_alignment.py --official GIT_DIR     # look up the official values in a clone of bytetriper/RAE

What is official, and why ours differs, stands in tools/alignment.yaml, whose head explains a row. Our values are never
typed: they are expressions over the composed experiments (rae_dino, dit_xl; of RAEv2 rae_dinov3_k7, dit_v2_xl, t2i_xl)
and the networks that these build.
"""

import argparse
import fnmatch
import inspect
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from copy import deepcopy
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
import yaml

ROOT = Path(__file__).parents[1]
TABLE = ROOT / "tools/alignment.yaml"
PAGE = ROOT / "docs/alignment.md"
STEPS_PER_EPOCH = 2502
EXPERIMENTS = {
    "rae": "rae_dino",
    "dit": "dit_xl",
    "dit_512": "dit_xl_512",
    "rae_v2": "rae_dinov3_k7",
    "dit_v2": "dit_v2_xl",
    "t2i": "t2i_xl",
}
KEY = re.compile(r"\b(rae|dit|dit_512|rae_v2|dit_v2|t2i)\.((?:model|flow|trainer|data|callbacks|seed)[\w.]*)")

INTRODUCTION = """\
# Alignment with the original

Every parameter of both stages beside the official code's ([bytetriper/RAE][official], commit {short}). This page is
made by `tools/build_alignment.py` from `tools/alignment.yaml`. Our values are read from `experiment=rae_dino` and
`experiment=dit_xl` as they are composed and built, those of RAEv2 from `rae_dinov3_k7`, `dit_v2_xl` and `t2i_xl`, and a
test compares. {equal} of {total} rows are equal; beside each other one stands the reason. Where the recipe that this
project follows (the paper, its code, its users) and the official code differ, ours is the recipe's. The official
values were read in the code; the tool's `--official` finds each of RAE's in a clone. RAEv2's stand as in our notes of
its code and configurations, by their sections.
"""


class Node(SimpleNamespace):
    """A mapping of the configuration with attributes for keys; a missing one is an error."""

    @classmethod
    def of(cls, value: Any) -> Any:
        """Mappings at any depth as nodes."""
        return cls(**{k: cls.of(v) for k, v in value.items()}) if isinstance(value, dict) else value


@cache
def composed(experiment: str) -> dict[str, Any]:
    """The resolved configuration of an experiment."""
    from unirae.app.config.composition import compose

    return compose([f"experiment={experiment}"])


@cache
def namespace() -> dict[str, Any]:
    """What the expressions of our values may use."""
    from torch.optim import AdamW

    from unirae.app.config.targets import locate
    from unirae.app.inputs.sampler_options import SamplerOptions
    from unirae.app.run import builders
    from unirae.app.run.stages import stage2
    from unirae.app.run.stages.stage1 import build_stage1
    from unirae.core.conventions import LATENT_EPS
    from unirae.evaluation.sampling.settings import SamplerSettings
    from unirae.flow.solvers import solve
    from unirae.flow.times import MAX_TIME, time_shift
    from unirae.losses import adaptive_weight
    from unirae.models.discriminators.dino import TokenNorm
    from unirae.nn import positions
    from unirae.nn.norms import RMSNorm

    configs = {name: composed(experiment) for name, experiment in EXPERIMENTS.items()}
    rae, dit = deepcopy(configs["rae"]), configs["dit"]
    for part in ("encoder", "perceptual", "discriminator"):
        rae["model"][part]["weights"] = "random"
    with torch.device("meta"):
        built = builders.build_rae(rae["model"], seed=0)
        return {
            **{name: Node.of(config) for name, config in configs.items()},
            "stage1": build_stage1(rae, built, steps_per_epoch=STEPS_PER_EPOCH),
            "stage2": stage2.denoiser_for(dit, built, num_classes=1000),
            "stage2_v2": _generator_of_raev2(configs["rae_v2"], configs["dit_v2"]),
            "stage2_t2i": _reader_of_text(configs["t2i"]),
            "STAGE1_TRANSFORM": locate(rae["data"]["train_transform"]["_target_"]),
            "STAGE2_TRANSFORM": locate(dit["data"]["stage2_transform"]["_target_"]),
            "TF32": torch.backends.cuda.matmul.allow_tf32,
            "decoder_table": _decoder_table,
            "last": lambda dotted: dotted.rpartition(".")[2],
            "default": lambda target, name: inspect.signature(target).parameters[name].default,
            "parameters": lambda module: sum(p.numel() for p in module.parameters()),
            "trainable": lambda module: sum(p.numel() for p in module.parameters() if p.requires_grad),
            **{"AdamW": AdamW, "LATENT_EPS": LATENT_EPS, "MAX_TIME": MAX_TIME, "RMSNorm": RMSNorm},
            **{"SamplerSettings": SamplerSettings, "SamplerOptions": SamplerOptions, "solve": solve},
            **{"TokenNorm": TokenNorm, "time_shift": time_shift},
            **{"adaptive_weight": adaptive_weight, "positions": positions},
        }


def _generator_of_raev2(rae: dict[str, Any], dit: dict[str, Any]) -> Any:
    from unirae.app.run import builders
    from unirae.app.run.stages import stage2

    rae = deepcopy(rae)
    rae["model"]["encoder"]["weights"] = "random"
    return stage2.denoiser_for(dit, builders.build_rae(rae["model"], seed=0), num_classes=1000)


def _reader_of_text(t2i: dict[str, Any]) -> Any:
    from unirae.models.denoisers.build import build_denoiser

    latents, text = (
        {"in_channels": 1024, "input_size": 16},
        {"text_width": 1024},
    )  # of DINOv3-L, of Qwen3-0.6B
    return build_denoiser(**{**t2i["model"]["dit"], **latents, **text, "num_classes": 0})


def _decoder_table(name: str) -> list[int]:
    node = yaml.safe_load((ROOT / f"configs/model/decoder/{name}.yaml").read_text())
    return [node[key] for key in ("width", "depth", "num_heads", "mlp_width")]


@cache
def table() -> dict[str, Any]:
    """tools/alignment.yaml."""
    return yaml.safe_load(TABLE.read_text())


def rows() -> Iterator[dict[str, Any]]:
    """All rows of all sections."""
    for section in table()["sections"].values():
        yield from section


def our_value(row: dict[str, Any]) -> Any:
    """The value of the row's expression; for a fact its words."""
    return row["fact"] if "fact" in row else eval(row["ours"], {"__builtins__": _BUILTINS}, namespace())


_BUILTINS = {"int": int, "len": len, "list": list, "round": round}


def is_same(row: dict[str, Any]) -> bool:
    """Whether the two agree."""
    if "fact" in row:
        return row["same"]
    ours, theirs = our_value(row), row["means"] if "means" in row else row["official"]
    return type(ours) is type(theirs) and ours == theirs


def keys(row: dict[str, Any]) -> list[tuple[str, str]]:
    """(experiment, dotted key) of each configuration key that a row reads."""
    return [(EXPERIMENTS[name], key) for name, key in KEY.findall(row.get("ours", ""))]


def leaves(node: Any, prefix: str) -> Iterator[str]:
    """Dotted names of the values below a node."""
    if isinstance(node, dict) and node:
        for key, value in node.items():
            yield from leaves(value, f"{prefix}.{key}")
    else:
        yield prefix


def uncovered() -> list[str]:
    """Keys under model and flow of both experiments that neither a row nor the list ``own`` knows."""
    missing = []
    for experiment in ("rae_dino", "dit_xl"):
        config = composed(experiment)
        read = {key for row in rows() for where, key in keys(row) if where == experiment}
        known = [
            key for group in ("model", "flow") if group in config for key in leaves(config[group], group)
        ]
        missing += [
            f"{experiment}: {key}"
            for key in known
            if not any(key == r or key.startswith(f"{r}.") for r in read) and own_reason(key) is None
        ]
    return missing


def own_reason(key: str) -> str | None:
    """Why a key of ours has no official counterpart."""
    return next((why for pattern, why in table()["own"].items() if fnmatch.fnmatch(key, pattern)), None)


def page() -> str:
    """The whole page."""
    spec, same = table(), [is_same(row) for row in rows()]
    tree = f"{spec['repository']}/blob/{spec['commit']}"
    parts = [INTRODUCTION.format(short=spec["commit"][:7], equal=sum(same), total=len(same))]
    for title, section in spec["sections"].items():
        lines = [_line(row) for row in section]
        parts.append("\n".join([f"## {title}\n", _HEADER, *lines]) + "\n")
    own = [f"| `{pattern}` | {why} |" for pattern, why in spec["own"].items()]
    parts.append(
        "\n".join(["## Keys without an official counterpart\n", "| key | what |\n|---|---|", *own]) + "\n"
    )
    links = [
        f"[{name}]: {path if '://' in path else f'{tree}/{path}'}" for name, path in spec["sources"].items()
    ]
    return "\n".join([*parts, f"[official]: {tree.replace('/blob/', '/tree/')}", *links]) + "\n"


_HEADER = "| what | key | ours | official | | official place | remark |\n|---|---|---|---|---|---|---|"


def _line(row: dict[str, Any]) -> str:
    source, _, place = row["at"].partition(" ")
    path = Path(table()["sources"][source])
    link = f"[{path.parent.name + '/' if path.suffix == '.json' else ''}{path.name}][{source}]"
    key = ", ".join(f"`{key}`" for _, key in keys(row)) or "–"
    remark = row.get("why") or row.get("note") or ""
    cells = [
        row["what"],
        key,
        _shown(our_value(row)),
        _shown(row["official"]),
        "=" if is_same(row) else "**≠**",
        f"{link} {place}",
        remark,
    ]
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, str):
        return value.rsplit(".", 1)[-1] if value.startswith("unirae.") else value
    return json.dumps(value)


def official_differences(git_dir: Path) -> list[str]:
    """Rows whose official value is not what the official repository has at the place the row names."""
    found = []
    for row in rows():
        source, _, place = row["at"].partition(" ")
        path, commit = table()["sources"][source], table()["commit"]
        if "://" in path:  # another repository, which is not at hand here
            continue
        command = ["git", "-C", str(git_dir), "show", f"{commit}:{path}"]
        text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        if not path.endswith((".yaml", ".json")):
            found += [] if place.strip('"') in text else [f"{row['what']}: no {place!r} in {path}"]
            continue
        content = json.loads(text) if path.endswith(".json") else yaml.safe_load(text)
        values = [_at(content, key) for key in place.split()]
        said, exact = row["official"], "means" not in row and "fact" not in row
        agree = (
            said in (values, *values) if exact else all(str(v).lower() in str(said).lower() for v in values)
        )
        if not agree:
            found.append(f"{row['what']}: {said!r} here, {values} in {path}")
    return found


def _at(node: Any, dotted: str) -> Any:
    for part in dotted.split("."):
        node = node[part]
    return node


def main() -> int:
    """Write, check, or look up."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="exit 1 where docs/alignment.md is stale")
    parser.add_argument(
        "--official", type=Path, metavar="GIT_DIR", help="compare with a clone of bytetriper/RAE"
    )
    arguments = parser.parse_args()
    if arguments.official:
        problems = official_differences(arguments.official)
    elif arguments.check:
        problems = [] if PAGE.read_text() == page() else [f"{PAGE} is stale: python tools/build_alignment.py"]
    else:
        problems = []
        PAGE.write_text(page())
    print("\n".join(problems), file=sys.stderr)
    return bool(problems)


if __name__ == "__main__":
    sys.exit(main())
