"""Whether two results of a score may be compared: same yardstick, same reference, same kind of images.

The protocol's points, and the trap of recipe.md that each avoids: the same reference (1), labels chosen alike (2),
equal counts for scores that few images bias (13). What was not recorded is never taken to be equal.
"""

from dataclasses import dataclass, field
from typing import Any

from unirae.core.records import differences, shortened
from unirae.data.content import without_paths
from unirae.evaluation.results.result_file import Result
from unirae.evaluation.results.score_families import Family, family

NOT_RECORDED = "not recorded"

_WHERE_FROM = {"weights", "source", "published_weights", "torch_fidelity", "reference"}
"""Of an extractor's settings: where its weights came from; which they are, their hash says."""
_DATA = ("fingerprint",)
_OF_FILES = ("image_folder", "hf")
"""Sources whose files anyone may change."""
_SUBSET = {"count": None, "subset_seed": None}


@dataclass(frozen=True, kw_only=True)
class Standing:
    """What stands between two values of a score.

    Attributes:
        reasons: why they may not be compared.
        unknown: what was not recorded and might be a reason.
        remarks: what a reader must know if they are compared.
    """

    reasons: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    def require_equal(self, what: str, a: Any, b: Any) -> None:
        """Two values that must be the same; :data:`NOT_RECORDED` is neither equal nor different."""
        lacking = [side for side, value in (("A", a), ("B", b)) if value == NOT_RECORDED]
        if lacking:
            self.unknown.append(f"{what} not recorded in {' and '.join(lacking)}")
        elif a != b:
            self.reasons.append(f"{what}: {shortened(a)} in A, {shortened(b)} in B")


def standing(name: str, a: Result, b: Result) -> Standing:
    """Whether the score ``name`` of two results may be compared."""
    found, kind = Standing(), family(name)
    if kind.of == "sets":
        found.require_equal("purpose", _purpose(a), _purpose(b))
    if kind.of != "classes":  # an encoder has an input size of its own
        found.require_equal("image size", *(r.images.get("size_px", NOT_RECORDED) for r in (a, b)))
    found.require_equal("crop", _crop(a), _crop(b))
    _check_count(found, kind, a, b)
    _check_yardstick(found, kind, name, a, b)
    if kind.with_reference:
        _check_reference(found, kind, a.reference, b.reference)
    if kind.of == "sets":
        _check_labels(found, a, b)
    if kind.of == "pairs":
        _check_pairs(found, a, b)
    return found


def same_images(a: Result, b: Result) -> bool:
    """Whether the images are known to be the same, in some order."""
    return _same(a.images, b.images, "content_sha256") is True


def same_input(name: str, a: Result, b: Result) -> bool:
    """Whether a score is known to have been computed of the very same images and reference, so far as they decide it.

    Of a reference its file will do. The order of images is known where it follows from what is recorded.
    """
    kind = family(name)
    reference = _same(a.reference, b.reference, "content_sha256", "sha256") if kind.with_reference else True
    return same_images(a, b) and reference is True and (not kind.ordered or same_order(name, a, b))


def same_order(name: str, a: Result, b: Result) -> bool:
    """Whether equal sets are known to stand in one order: samples of one seed, or the same files."""
    pairs = [(_order(a.images), _order(b.images))]
    if family(name).with_reference:
        pairs.append((_order(a.reference), _order(b.reference)))
    return all(first is not None and first == second for first, second in pairs)


def _same(a: dict[str, Any], b: dict[str, Any], *keys: str) -> bool | None:
    """By the first of these keys that both have; None where they share none."""
    for key in keys:
        if a.get(key) is not None and b.get(key) is not None:
            return a[key] == b[key]
    return None


def _order(record: dict[str, Any]) -> list[Any] | None:
    """What decides in which order images stand; None where that was not recorded."""
    if record.get("sha256") is not None:
        return [record["sha256"]]
    if record.get("fingerprint"):
        return [
            record["fingerprint"],
            record.get("count"),
            record.get("subset_seed"),
            record.get("paired_by"),
        ]
    sampler = record.get("sampler") or {}
    if record.get("kind") != "generation" or sampler.get("seed") is None:
        return None
    return [sampler.get(key) for key in ("seed", "label_sampling", "labels")]


def kind_of(result: Result) -> str:
    """Of its images: generation, reconstruction, folder, npz, dataset, …"""
    return result.images.get("kind", NOT_RECORDED)


def _purpose(result: Result) -> str:
    kind = kind_of(result)
    if kind == NOT_RECORDED:
        return kind
    return "reconstructions" if kind == "reconstruction" else "images on their own"


def _crop(result: Result) -> str:
    """Samples are not cropped, and neither are images that are taken as they are stored."""
    kind, crop = kind_of(result), result.images.get("crop", NOT_RECORDED)
    if kind == "generation" or crop in (None, "AsStored"):
        return "none"
    return str(crop).rsplit(".", 1)[-1]


def _check_count(found: Standing, kind: Family, a: Result, b: Result) -> None:
    counts = [NOT_RECORDED if r.count is None else r.count for r in (a, b)]
    if kind.biased or NOT_RECORDED in counts:
        found.require_equal(f"number of images{', which biases this score' if kind.biased else ''}", *counts)
    elif counts[0] != counts[1]:
        found.remarks.append(
            f"{counts[0]} images in A, {counts[1]} in B: this score has no bias, only more noise with fewer images"
        )


def _check_yardstick(found: Standing, kind: Family, name: str, a: Result, b: Result) -> None:
    """The score's own network and parameters."""
    if kind.of == "classes":  # the classifier itself is what is compared
        return
    sides = [r.settings.get("metrics", {}).get(name, NOT_RECORDED) for r in (a, b)]
    if NOT_RECORDED in sides:
        found.require_equal("features and parameters", *sides)
        return
    if any(("weights" in side or "extractor" in side) and not side.get("sha256") for side in sides):
        hashes = [side.get("sha256") or NOT_RECORDED for side in sides]
        found.require_equal("hash of the feature network's weights", *hashes)
    first, second = ({k: v for k, v in side.items() if k not in _WHERE_FROM} for side in sides)
    for different in differences(first, second, missing=NOT_RECORDED):
        what = (
            "hash of the feature network's weights" if different.name == "sha256" else f"its {different.name}"
        )
        found.require_equal(what, different.first, different.second)


def _check_reference(found: Standing, kind: Family, a: dict[str, Any], b: dict[str, Any]) -> None:
    """By the strongest identity that both record: the pixels, the file, or the data with their selection and crop."""
    if kind.of == "classes" and _decided_by_pixels(found, a, b):
        return
    a, b = _comparable(a, b)
    selections = [_selection(side) for side in (a, b)]
    if not kind.biased and _differ_only_in_subset(*selections):
        found.remarks.append("the references are different subsets of the same images, which adds noise")
        return
    known = [describe_reference(side) for side in (a, b)]
    for key in ("content_sha256", "sha256") if kind.of != "classes" else ():
        if key in a and key in b:
            if a[key] != b[key]:
                found.reasons.append(f"reference: {known[0]} in A, {known[1]} in B")
            return
    if NOT_RECORDED in known:
        found.require_equal("reference", *known)
    elif selections[0] is None or selections[1] is None:
        found.reasons.append(f"reference: {known[0]} in A, {known[1]} in B")
    else:
        for key in _DATA if kind.of == "classes" else selections[0]:
            _check_selected(found, key, selections[0][key], selections[1][key])
        lacking = [side for side, record in (("A", a), ("B", b)) if _lacks_contents(record["fingerprint"])]
        if len(lacking) == 2:  # of one, the difference says so
            found.unknown.append("contents of the reference's images not recorded in A and B")
        found.remarks.extend(_moved(a["fingerprint"], b["fingerprint"]))


def _decided_by_pixels(found: Standing, a: dict[str, Any], b: dict[str, Any]) -> bool:
    """Whether the pixels that two probes saw decide: equal ones always, others where both were cropped alike."""
    same = _same(a, b, "content_sha256")
    if same is False and a.get("size_px") == b.get("size_px"):
        found.reasons.append("reference: other pixels in A than in B, at the same size")
    return same is True or (same is False and a.get("size_px") == b.get("size_px"))


def _lacks_contents(fingerprint: Any) -> bool:
    """Whether files are known by their names alone, as older versions recorded them."""
    if not isinstance(fingerprint, dict):
        return False
    if fingerprint.get("source") in _OF_FILES:
        return "bytes_sha256" not in fingerprint
    return any(map(_lacks_contents, fingerprint.values()))


def _comparable(a: Any, b: Any) -> tuple[Any, Any]:
    """Two records; where one has a hash of all bytes and the other of a sample, the second has none of that kind."""
    if not (isinstance(a, dict) and isinstance(b, dict)):
        return a, b
    pairs = {key: _comparable(a[key], b[key]) for key in a if key in b}
    first, second = ({**side, **{k: pair[i] for k, pair in pairs.items()}} for i, side in enumerate((a, b)))
    if None not in (a.get("bytes_read"), b.get("bytes_read")) and a["bytes_read"] != b["bytes_read"]:
        second = {
            k: v for k, v in second.items() if k not in ("bytes_sha256", "bytes_read", "hf_fingerprint")
        }
    return first, second


def _check_selected(found: Standing, key: str, a: Any, b: Any) -> None:
    if NOT_RECORDED in (a, b):
        found.require_equal(f"reference's {key}", a, b)
    for different in differences(a, b, missing=NOT_RECORDED, name=key):
        found.require_equal(f"reference's {different.name}", different.first, different.second)


def _moved(a: Any, b: Any) -> list[str]:
    """Folders are known by the names of their files alone; a path has many spellings, and folders are copied."""
    return [
        f"reference's {d.name}: {d.first} in A, {d.second} in B; taken to be the same images, which nothing contradicts"
        for d in differences(a, b, missing=NOT_RECORDED, name="fingerprint")
        if d.name.endswith(".path")
    ]


def _selection(reference: dict[str, Any]) -> dict[str, Any] | None:
    """Which images of which data, cropped how; None for a file of statistics."""
    if "fingerprint" not in reference:
        return None
    keys = (*_DATA, "crop", "size_px", "count", "subset_seed")
    return {key: without_paths(reference.get(key, NOT_RECORDED)) for key in keys}


def _differ_only_in_subset(a: dict[str, Any] | None, b: dict[str, Any] | None) -> bool:
    return a is not None and b is not None and a != b and a | _SUBSET == b | _SUBSET


def describe_reference(reference: dict[str, Any]) -> str:
    """In a few words: a file with its hash, or data with its split and count; or that it was not recorded."""
    if "sha256" in reference and "content_sha256" not in reference:
        return f"{reference.get('file', 'a file')} ({reference['sha256'][:8]})"
    if "fingerprint" not in reference and "content_sha256" not in reference:
        return NOT_RECORDED
    fingerprint = reference.get("fingerprint", {})
    name = reference.get("data") or fingerprint.get("source") or reference.get("images", "images")
    split = f", {fingerprint['split']} split" if "split" in fingerprint else ""
    content = f", pixels {reference['content_sha256'][:8]}" if "content_sha256" in reference else ""
    return f"{name}{split}, {reference.get('count', NOT_RECORDED)} images{content}"


def _check_pairs(found: Standing, a: Result, b: Result) -> None:
    """Older versions paired a folder and a file of images by the order of names as text: 10.png before 2.png."""
    sides = [("A", a), ("B", b)]
    lacking = [side for side, r in sides if kind_of(r) != "reconstruction" and "paired_by" not in r.images]
    if lacking:
        found.unknown.append(f"how images were paired not recorded in {' and '.join(lacking)}")


def _check_labels(found: Standing, a: Result, b: Result) -> None:
    """Balanced labels give an FID about 0.1 lower than random ones (recipe, trap 2)."""
    if not {kind_of(a), kind_of(b)} <= {"generation", "folder", "npz", NOT_RECORDED}:
        return  # images of a data set have their own labels
    if same_images(a, b):
        return  # whatever their labels were
    found.require_equal("label sampling", *(r.sampler.get("label_sampling", NOT_RECORDED) for r in (a, b)))
    if a.sampler.get("label_sampling") == b.sampler.get("label_sampling") == "given":
        found.require_equal("labels", a.sampler.get("labels"), b.sampler.get("labels"))
