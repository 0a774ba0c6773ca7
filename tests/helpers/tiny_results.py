"""Result files of evaluations, as the commands write them, with chosen values and settings."""

import copy
import json
from pathlib import Path
from typing import Any

INCEPTION = {"extractor": "inception", "output": "pooled", "features": 2048, "weights": "hub", "sha256": "aa"}
GENERATION: dict[str, Any] = {
    "metrics": {"fid": 12.0},
    "labels": {"fid": "fid@500"},
    "count": 500,
    "uncertainty": {"fid": {"standard_error": 0.3, "low": 11.4, "high": 12.6, "method": "bootstrap"}},
    "warnings": [],
    "settings": {
        "images": {
            "kind": "generation",
            "count": 500,
            "size_px": [64, 64],
            "content_sha256": "11",
            "duplicates": 0,
            "batch_size": 32,
            "sampler": {
                "checkpoint_sha256": "cc",
                "weights": "EMA 0.9995",
                "label_sampling": "equal",
                "labels": None,
                "seed": 0,
                "num_steps": 50,
                "solver": "euler",
                "cfg_scale": 1.0,
                "guidance_interval": [0.0, 1.0],
            },
        },
        "reference": {
            "purpose": "generation",
            "data": "emoji",
            "fingerprint": {"source": "emoji", "split": "train", "count": 3000},
            "crop": "AdmCenterCrop",
            "count": 3000,
            "subset_seed": None,
            "size_px": [64, 64],
            "content_sha256": "ee",
        },
        "metrics": {"fid": INCEPTION},
        "device": "cpu",
        "versions": {"unirae": "0.1.0", "torch": "2.9.0"},
    },
}
RECONSTRUCTION: dict[str, Any] = {
    "metrics": {"psnr": 20.0},
    "count": 100,
    "uncertainty": {"psnr": {"standard_error": 0.1}},
    "warnings": [],
    "settings": {
        "images": {
            "kind": "reconstruction",
            "checkpoint_sha256": "cc",
            "weights": "EMA",
            "crop": "unirae.data.transforms.AdmCenterCrop",
            "data": "emoji",
            "fingerprint": {"source": "emoji", "split": "val", "count": 200},
            "count": 100,
            "size_px": [64, 64],
            "subset_seed": 0,
        },
        "reference": {"purpose": "reconstruction", "count": 100, "size_px": [64, 64], "content_sha256": "ee"},
        "metrics": {"psnr": {"definition": "mean over images"}},
        "device": "cpu",
        "versions": {"unirae": "0.1.0", "torch": "2.9.0"},
    },
}
MISSING = object()


def changed(content: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """A copy with other values: ``settings/images/count`` names one; :data:`MISSING` takes it away."""
    content = copy.deepcopy(content)
    for path, value in changes.items():
        *parents, last = path.split("/")
        node = content
        for parent in parents:
            node = node[parent]
        if value is MISSING:
            del node[last]
        else:
            node[last] = value
    return content


def write_result(
    file: Path, changes: dict[str, Any] | None = None, *, of: dict[str, Any] = GENERATION
) -> Path:
    """A result file of ``of``, changed."""
    file.write_text(json.dumps(changed(of, changes or {})))
    return file
