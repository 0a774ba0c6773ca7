"""The names next to a misspelt one."""

from collections.abc import Iterable, Sequence
from difflib import get_close_matches

_SYNONYMS = {
    "amp": "precision",
    "batch_size": "global_batch_size",
    "checkpoint": "ckpt_path",
    "epochs": "max_epochs",
    "gpus": "devices",
    "grad_accumulation": "accumulate_grad_batches",
    "grad_clip": "clip_grad",
    "gradient_clip_val": "clip_grad",
    "learning_rate": "lr",
    "num_epochs": "max_epochs",
    "out_dir": "output_dir",
    "output": "output_dir",
    "resolution": "image_size",
    "resume": "ckpt_path",
    "steps": "max_steps",
    "wd": "weight_decay",
    "workers": "num_workers",
}
"""Other programs' names of our keys, which resemble ours too little to be found by their letters."""
_MOST = 3


def nearest(name: str, known: Sequence[str]) -> list[str]:
    """The known names that a misspelt one may mean, the likeliest first."""
    synonym = _SYNONYMS.get(name)
    if synonym is not None and synonym in known:
        return [synonym]
    by_lower_case = {one.lower().replace("-", "_"): one for one in known}
    found = get_close_matches(name.lower().replace("-", "_"), list(by_lower_case), _MOST, cutoff=0.7)
    return [by_lower_case[one] for one in found]


def nearest_keys(key: str, keys: Iterable[str]) -> list[str]:
    """The dotted keys that a misspelt one may mean: in its own node, else of the same name elsewhere.

    Args:
        keys: all keys that the configuration has.
    """
    keys = list(keys)
    node, _, name = key.rpartition(".")
    siblings = [one.rpartition(".")[2] for one in keys if one.rpartition(".")[0] == node]
    if found := nearest(name, siblings):
        return [f"{node}.{one}" if node else one for one in found]
    synonym = _SYNONYMS.get(name)
    below = [one for one in keys if synonym and one.rpartition(".")[2] == synonym]
    # optimizer.lr: the node itself is incomplete
    below = below or [one for one in keys if one.endswith(f".{key}")]
    below = below or [one for one in keys if one.rpartition(".")[2] == name]
    return sorted(below or get_close_matches(key, keys, _MOST, cutoff=0.75), key=lambda one: one.count("."))[
        :_MOST
    ]


def meant(found: Sequence[str]) -> str:
    """The question ``did you mean a, b or c?``, or an empty text."""
    return f"did you mean {alternatives(found)}?" if found else ""


def alternatives(names: Sequence[str]) -> str:
    """An enumeration such as ``a, b or c``."""
    return f"{', '.join(names[:-1])} or {names[-1]}" if len(names) > 1 else "".join(names)
