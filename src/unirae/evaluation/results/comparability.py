"""Comparability of two results of a score: one record of what decides it, and a table of allowed differences.

The protocol's points, and the trap of recipe.md that each avoids: the same reference (1), labels chosen alike (2),
equal counts for scores that few images bias (13). What was not recorded is never taken to be equal.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

from unirae.core.differences import shortened
from unirae.core.io import sha256_of_text
from unirae.data.source_content import without_paths
from unirae.evaluation.results.result_file import Result
from unirae.evaluation.results.score_families import Family, family

NOT_RECORDED = "not recorded"

_DECIDING = {
    "sets": (
        "purpose",
        "image size",
        "crop",
        "number of images",
        "features and parameters",
        "reference",
        "labels",
    ),
    "pairs": ("image size", "crop", "number of images", "features and parameters", "reference", "pairing"),
    # prompts stand among the parameters; how labels were chosen does not matter beside them
    "prompts": ("purpose", "image size", "crop", "number of images", "features and parameters"),
    # the classifier itself is what is compared, and its encoder has an input size of its own
    "classes": ("crop", "number of images", "reference"),
}
"""Parts of a result that decide a score, by what it is of."""
_ALLOWED = {
    # folders are known by their files; a path has many spellings, and folders are copied
    "reference.fingerprint*.path": "{what}: {a} in A, {b} in B; taken to be the same images, which nothing contradicts"
}
"""Patterns of the names of differences that are no reason, with what a reader must know of them."""
_ALLOWED_WITHOUT_BIAS = {
    "number of images": "{a} images in A, {b} in B: this score has no bias, only more noise with fewer images"
}
_SUBSET = {"count": None, "subset_seed": None}
"""Parts of the reference that may differ, too, for a score without bias."""

_IN_WORDS = {
    "features and parameters.sha256": "hash of the feature network's weights",
    "features and parameters.prompts_sha256": "hash of the prompts",
    "features and parameters.tokens_sha256": "hash of the prompts' tokens",
    "features and parameters.": "its ",
    "reference.contents": "contents of the reference's images",
    "reference.": "reference's ",
    "labels": "label sampling",
    "pairing": "how images were paired",
}
"""Words for the parts that decide, by the beginnings of their names."""
_WHERE_FROM = {"weights", "source", "published_weights", "torch_fidelity", "reference", "compared_with"}
"""Keys of an extractor's settings that say where its weights came from; which they are, their hash says. What a score
was compared with is its reference."""
_NETWORKS = {"weights", "extractor"}
"""Settings of a score that a network computes, whose weights must be known."""
_BY_READING = ("bytes_sha256", "bytes_read", "hf_fingerprint")
"""Keys of files' identity that say nothing beside one for which more or fewer bytes were read."""
_OF_FILES = ("image_folder", "hf", "tar_shards")
"""Sources whose files anyone may change."""
_CHOSEN_LABELS = ("generation", "folder", "npz", NOT_RECORDED)
"""Kinds of images that may be samples; images of a data set have their own labels."""


@dataclass(frozen=True, kw_only=True)
class Standing:
    """Obstacles between two values of a score.

    Attributes:
        allowed: differences that are remarks, see :data:`_ALLOWED`.
        reasons: why they may not be compared.
        unknown: what was not recorded and might be a reason.
        remarks: what a reader must know if they are compared.
    """

    allowed: Mapping[str, str] = field(default_factory=dict)
    reasons: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    def require_equal(self, name: str, a: Any, b: Any) -> None:
        """Two values that must be the same, or two records; :data:`NOT_RECORDED` is neither equal nor different."""
        remark = next((said for pattern, said in self.allowed.items() if fnmatchcase(name, pattern)), None)
        lacking = [side for side, value in (("A", a), ("B", b)) if value == NOT_RECORDED]
        if isinstance(a, dict) and isinstance(b, dict):
            read = [side.get("bytes_read") for side in (a, b)]
            hidden = _BY_READING if None not in read and read[0] != read[1] else ()
            for key in a | b:
                there = NOT_RECORDED if key in hidden else b.get(key, NOT_RECORDED)
                self.require_equal(f"{name}.{key}", a.get(key, NOT_RECORDED), there)
        elif remark:
            self.remarks.extend([remark.format(what=_in_words(name), a=a, b=b)] if a != b else [])
        elif lacking:
            self.unknown.append(f"{_in_words(name)} not recorded in {' and '.join(lacking)}")
        elif a != b:
            self.reasons.append(f"{_in_words(name)}: {shortened(a)} in A, {shortened(b)} in B")


def standing(name: str, a: Result, b: Result) -> Standing:
    """Find whether the score ``name`` of two results may be compared."""
    kind, records = family(name), (deciding(name, a), deciding(name, b))
    free_count = not kind.biased and None not in (a.count, b.count)
    found = Standing(allowed=_ALLOWED | _ALLOWED_WITHOUT_BIAS if free_count else _ALLOWED)
    for what in _DECIDING[kind.of]:
        first, second = (record[what] for record in records)
        if what == "labels" and (None in (first, second) or same_images(a, b)):
            continue  # of the very same images they do not matter
        if what != "reference":
            biasing = ", which biases this score" if what == "number of images" and kind.biased else ""
            found.require_equal(f"{what}{biasing}", first, second)
        elif kind.with_reference:
            _check_reference(found, kind, first, second)
    return found


def deciding(name: str, result: Result) -> dict[str, Any]:
    """Parts of a result that decide the score ``name``, in one form for every kind of images."""
    kind, images = kind_of(result), result.images
    crop = images.get("crop", NOT_RECORDED)
    purposes = {NOT_RECORDED: NOT_RECORDED, "reconstruction": "reconstructions"}
    return {
        "purpose": purposes.get(kind, "images on their own"),
        "image size": images.get("size_px", NOT_RECORDED),
        # samples are not cropped, and neither are images that are taken as they are stored
        "crop": "none"
        if kind == "generation" or crop in (None, "AsStored")
        else str(crop).rsplit(".", 1)[-1],
        "number of images": NOT_RECORDED if result.count is None else result.count,
        "features and parameters": _yardstick(result.settings.get("metrics", {}).get(name)),
        "reference": reference_of(name, result),
        # balanced ones give an FID about 0.1 lower than random ones (recipe, trap 2)
        "labels": _labels(result.sampler) if kind in _CHOSEN_LABELS else None,
        # older versions went by the order of names as text: 10.png before 2.png
        "pairing": "known" if kind == "reconstruction" or "paired_by" in images else NOT_RECORDED,
    }


def same_images(a: Result, b: Result) -> bool:
    """Say whether the images are known to be the same, in some order."""
    return _same(a.images, b.images, "content_sha256") is True


def same_input(name: str, a: Result, b: Result) -> bool:
    """Say whether a score is known to be of the very same images and reference, so far as they decide it.

    Of a reference its file will do. The order of images is known where it follows from what is recorded.
    """
    kind = family(name)
    references = reference_of(name, a), reference_of(name, b)
    reference = _same(*references, "content_sha256", "sha256") if kind.with_reference else True
    return same_images(a, b) and reference is True and (not kind.ordered or same_order(name, a, b))


def same_order(name: str, a: Result, b: Result) -> bool:
    """Say whether equal sets are known to stand in one order: samples of one seed, or the same files."""
    pairs = [(_order(a.images), _order(b.images))]
    if family(name).with_reference:
        pairs.append((_order(a.reference), _order(b.reference)))
    return all(first is not None and first == second for first, second in pairs)


def reference_of(name: str, result: Result) -> dict[str, Any]:
    """Record of what a score was compared with: published moments that it brings, or else the result's reference."""
    own = result.settings.get("metrics", {}).get(name) or {}
    terms = [term.get("compared_with") for term in own.get("mean_of", {}).values()]
    if None not in terms and terms:
        return {"file": "published moments", "sha256": sha256_of_text(" ".join(t["sha256"] for t in terms))}
    return own.get("compared_with") or result.reference


def kind_of(result: Result) -> str:
    """The kind of a result's images: generation, reconstruction, folder, npz, dataset, …"""
    return result.images.get("kind", NOT_RECORDED)


def describe_reference(reference: dict[str, Any]) -> str:
    """A reference in a few words: a file with its hash, or data with split and count; or that it was not recorded."""
    if "sha256" in reference and "content_sha256" not in reference:
        return f"{reference.get('file', 'a file')} ({reference['sha256'][:8]})"
    if "fingerprint" not in reference and "content_sha256" not in reference:
        return NOT_RECORDED
    fingerprint = reference.get("fingerprint", {})
    name = reference.get("data") or fingerprint.get("source") or reference.get("images", "images")
    split = f", {fingerprint['split']} split" if "split" in fingerprint else ""
    content = f", pixels {reference['content_sha256'][:8]}" if "content_sha256" in reference else ""
    return f"{name}{split}, {reference.get('count', NOT_RECORDED)} images{content}"


_OF_PROMPTS = ("prompts", "images_per_prompt", "prompt_seeds")


def _same(a: dict[str, Any], b: dict[str, Any], *keys: str) -> bool | None:
    """Compare by the first of these keys that both have; None where they share none."""
    known = [key for key in keys if a.get(key) is not None and b.get(key) is not None]
    return a[known[0]] == b[known[0]] if known else None


def _order(record: dict[str, Any]) -> list[Any] | None:
    """Parts of a record that decide in which order images stand; None where that was not recorded."""
    if record.get("sha256") is not None:
        return [record["sha256"]]
    if record.get("fingerprint"):
        return [record.get(key) for key in ("fingerprint", "count", "subset_seed", "paired_by")]
    sampler = record.get("sampler") or {}
    if record.get("kind") != "generation" or sampler.get("seed") is None:
        return None
    return [sampler.get(key) for key in ("seed", "label_sampling", "labels", *_OF_PROMPTS)]


def _labels(sampler: dict[str, Any]) -> str:
    chosen = sampler.get("label_sampling", NOT_RECORDED)
    if chosen == "prompts":
        prompts = sampler.get("prompts") or {}
        which, each = str(prompts.get("sha256"))[:12], sampler.get("images_per_prompt")
        return f"{prompts.get('count')} prompts {which}, {each} of each"
    return f"given {sampler.get('labels')}" if chosen == "given" else chosen


def _yardstick(settings: dict[str, Any] | None) -> Any:
    """The score's own network and parameters; the network's weights by their hash."""
    if settings is None:
        return NOT_RECORDED
    if "mean_of" in settings:
        return {"mean_of": {term: _yardstick(own) for term, own in settings["mean_of"].items()}}
    network = {"sha256": settings.get("sha256") or NOT_RECORDED} if settings.keys() & _NETWORKS else {}
    return {key: value for key, value in settings.items() if key not in _WHERE_FROM} | network


def _check_reference(found: Standing, kind: Family, a: dict[str, Any], b: dict[str, Any]) -> None:
    """Check references by the strongest identity that both record: pixels, file, or the data and their crop."""
    selections = [_selection(side, kind) for side in (a, b)]
    if not kind.biased and _differ_only_in_subset(*selections):
        found.remarks.append("the references are different subsets of the same images, which adds noise")
        return
    same, known = _same(a, b, "content_sha256", "sha256"), [describe_reference(side) for side in (a, b)]
    if same is False and kind.of == "classes" and a.get("size_px") != b.get("size_px"):
        same = None  # the same images have other pixels at another size
    if same is False:
        found.reasons.append(f"reference: {known[0]} in A, {known[1]} in B")
    elif same is None:
        found.require_equal("reference", *(known if None in selections else selections))


def _selection(reference: dict[str, Any], kind: Family) -> dict[str, Any] | None:
    """Identity of a reference's images: which ones of which data, cropped how; None for a file of statistics."""
    if "fingerprint" not in reference:
        return None
    keys = () if kind.of == "classes" else ("crop", "size_px", "count", "subset_seed")
    return {
        **{key: reference.get(key, NOT_RECORDED) for key in ("fingerprint", *keys)},
        "contents": NOT_RECORDED if _lacks_contents(reference["fingerprint"]) else "recorded",
    }


def _differ_only_in_subset(a: dict[str, Any] | None, b: dict[str, Any] | None) -> bool:
    first, second = (without_paths(side) for side in (a, b))
    return None not in (a, b) and first != second and first | _SUBSET == second | _SUBSET


def _lacks_contents(fingerprint: Any) -> bool:
    """Say whether files are known by their names alone, as older versions recorded them."""
    if not isinstance(fingerprint, dict):
        return False
    if fingerprint.get("source") in _OF_FILES:
        return "bytes_sha256" not in fingerprint
    return any(map(_lacks_contents, fingerprint.values()))


def _in_words(name: str) -> str:
    beginning = next((known for known in _IN_WORDS if name.startswith(known)), "")
    return _IN_WORDS.get(beginning, "") + name.removeprefix(beginning)
