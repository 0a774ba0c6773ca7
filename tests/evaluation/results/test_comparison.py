"""Verdicts on two results: the direction, the noise, and what may not be compared."""

import pytest

from tiny_results import GENERATION, MISSING, RECONSTRUCTION, write_result
from unirae.core.errors import ConfigError, DataError, UserError
from unirae.evaluation.results.comparison import compare, noise_of_difference
from unirae.evaluation.results.result_file import read_result

IMAGES = "settings/images"
SAMPLER = f"{IMAGES}/sampler"
REFERENCE = "settings/reference"
OTHER = {f"{IMAGES}/content_sha256": "22", f"{SAMPLER}/cfg_scale": 1.5}
"""Of another evaluation with the same yardstick."""


@pytest.fixture
def compared(tmp_path):
    def compare_with(b=None, a=None, of=GENERATION):
        other = OTHER if of is GENERATION else {}
        return compare(
            read_result(write_result(tmp_path / "a.json", a or {}, of=of)),
            read_result(write_result(tmp_path / "b.json", {**other, **(b or {})}, of=of)),
        )

    return compare_with


def value(name, number, error=0.1):
    """Changes that replace the score of a result."""
    settings = {name: {"sha256": "aa", "extractor": "x"}}
    return {
        "metrics": {name: number},
        "settings/metrics": settings,
        "uncertainty": {} if error is None else {name: {"standard_error": error}},
    }


# ---------------------------------------------------------------- verdicts


@pytest.mark.parametrize(
    ("name", "better"),
    [
        *(
            (name, "A better")
            for name in ("fid", "sfid", "kid", "fd_mae", "fdr_mae", "fdr6", "fid_random_inception")
        ),
        *((name, "B better") for name in ("is", "precision", "recall", "density", "coverage", "clip_score")),
    ],
)
def test_the_direction_is_the_scores_own(compared, name, better):
    (score,) = compared(a=value(name, 1.0), b=value(name, 2.0)).scores
    assert (score.outcome, score.difference) == (better, 1.0)


@pytest.mark.parametrize(
    ("name", "better"), [("psnr", "B better"), ("ssim", "B better"), ("lpips", "A better")]
)
def test_directions_of_pairs(compared, name, better):
    (score,) = compared(a=value(name, 1.0), b=value(name, 2.0), of=RECONSTRUCTION).scores
    assert score.outcome == better


def test_noise_is_two_standard_errors_of_the_difference(compared):
    assert noise_of_difference(0.3, 0.4) == pytest.approx(1.0)
    assert noise_of_difference(None, 0.4) is None
    outcomes = [
        compared(a=value("fid", 10.0, 0.3), b=value("fid", b, 0.4)).scores[0].outcome
        for b in (10.99, 11.01, 8.9)
    ]
    assert outcomes == ["within noise", "A better", "B better"]


def test_unknown_noise_says_what_to_do(compared):
    (score,) = compared(a=value("fid", 10.0), b=value("fid", 11.0, None)).scores
    assert (score.outcome, score.noise) == ("noise unknown", None)
    assert score.why == ["repeat both with confidence=bootstrap"]
    (score,) = compared(a=value("kid", 10.0, None), b=value("kid", 11.0)).scores
    assert score.why == ["no standard error of it was recorded"]


def test_equal_values_need_no_noise(compared):
    assert compared(a=value("fid", 10.0, None), b=value("fid", 10.0, None)).scores[0].outcome == "equal"


# ---------------------------------------------------------------- what may not be compared


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({f"{IMAGES}/size_px": [32, 32]}, "image size: [64, 64] in A, [32, 32] in B"),
        ({"count": 1000}, "number of images, which biases this score: 500 in A, 1000 in B"),
        ({f"{SAMPLER}/label_sampling": "random"}, "label sampling: equal in A, random in B"),
        ({"settings/metrics/fid/sha256": "bb"}, "hash of the feature network's weights: aa in A, bb in B"),
        ({"settings/metrics/fid/output": "spatial"}, "its output: pooled in A, spatial in B"),
        ({f"{REFERENCE}/content_sha256": "ff"}, "pixels ff in B"),
        ({REFERENCE: {"file": "adm.npz", "sha256": "1234567890"}}, "adm.npz (12345678) in B"),
        (
            {IMAGES: {**GENERATION["settings"]["images"], "kind": "folder", "crop": "AdmCenterCrop"}},
            "crop: none in A",
        ),
    ],
)
def test_reasons(compared, changes, reason):
    (score,) = compared(b=changes).scores
    assert score.outcome == "not comparable"
    assert reason in "; ".join(score.why)


def test_samples_and_reconstructions_are_not_comparable(compared):
    purpose = {IMAGES: {**GENERATION["settings"]["images"], "kind": "reconstruction"}}
    (score,) = compared(a=value("kid", 1.0), b={**value("kid", 1.0), **purpose}).scores
    assert "purpose: images on their own in A, reconstructions in B" in score.why
    with pytest.raises(DataError, match=r"has fid, .* has rfid"):  # whatever the file calls it
        compared(b=purpose)


@pytest.mark.parametrize(
    ("missing", "what"),
    [
        (f"{IMAGES}/kind", "purpose"),
        (f"{IMAGES}/size_px", "image size"),
        (f"{SAMPLER}/label_sampling", "label sampling"),
        ("count", "number of images"),
        (REFERENCE, "reference"),
        ("settings/metrics/fid", "features and parameters"),
        ("settings/metrics/fid/sha256", "hash of the feature network's weights"),
    ],
)
def test_what_was_not_recorded_is_not_taken_to_be_equal(compared, missing, what):
    for sides in (
        {"b": {missing: MISSING}},
        {"a": {missing: MISSING}},
        {s: {missing: MISSING} for s in "ab"},
    ):
        (score,) = compared(**sides).scores
        assert score.outcome == "comparability unknown"
        assert what in score.why[0]
        assert score.why[0].endswith(f"not recorded in {' and '.join(s.upper() for s in sorted(sides))}")
        assert score.why[-1] == "if that is the same in both: equal"


def test_references_are_known_by_the_strongest_identity(compared):
    elsewhere = {f"{REFERENCE}/fingerprint": {"source": "emoji", "path": "elsewhere"}}
    assert compared(b=elsewhere).scores[0].outcome == "equal"
    by_data = {f"{REFERENCE}/content_sha256": MISSING}
    assert compared(a=by_data, b=by_data).scores[0].outcome == "equal"
    subset = {**by_data, f"{REFERENCE}/count": 100}
    assert compared(a=by_data, b=subset).scores[0].why == ["reference's count: 3000 in A, 100 in B"]
    vague = {**by_data, f"{REFERENCE}/crop": MISSING}
    assert compared(a=vague, b=vague).scores[0].outcome == "comparability unknown"


def test_where_weights_came_from_does_not_matter(compared):
    assert compared(b={"settings/metrics/fid/weights": "inception.pth"}).scores[0].outcome == "equal"


def test_a_folder_of_samples_compares_with_samples(compared):
    folder = {f"{IMAGES}/kind": "folder", f"{IMAGES}/crop": "AsStored"}
    assert compared(b=folder).scores[0].outcome == "equal"


def test_samples_of_other_prompts_are_not_compared(compared):
    def prompts(code, each=1):
        return {
            f"{SAMPLER}/label_sampling": "prompts",
            f"{SAMPLER}/prompts": {"count": 5, "sha256": code * 64},
            f"{SAMPLER}/images_per_prompt": each,
        }

    assert compared(a=prompts("a"), b=prompts("a")).scores[0].outcome == "equal"
    for other in (prompts("b"), prompts("a", each=4)):
        (score,) = compared(a=prompts("a"), b=other).scores
        assert score.outcome == "not comparable"
        assert score.why[0].startswith("label sampling: 5 prompts aaaaaaaaaaaa, 1 of each in A, 5 prompts")


def test_images_of_a_data_set_have_no_label_sampling(compared):
    dataset = {f"{IMAGES}/kind": "dataset", f"{IMAGES}/crop": "AdmCenterCrop", SAMPLER: MISSING}
    assert compared(a=dataset, b={f"{SAMPLER}/cfg_scale": 1.0, **dataset}).scores[0].outcome == "equal"


def test_given_labels_must_be_the_same(compared):
    given = {f"{SAMPLER}/label_sampling": "given", f"{SAMPLER}/labels": [0, 1]}
    assert compared(a=given, b=given).scores[0].outcome == "equal"
    assert compared(a=given, b={**given, f"{SAMPLER}/labels": [0]}).scores[0].outcome == "not comparable"


def test_scores_without_bias_take_other_counts(compared):
    more = {
        **value("kid", 2.0),
        "count": 1000,
        f"{REFERENCE}/count": 100,
        f"{REFERENCE}/content_sha256": "ff",
    }
    (score,) = compared(a=value("kid", 1.0), b=more).scores
    assert score.outcome == "A better"
    assert "500 images in A, 1000 in B" in score.remarks[0]
    assert "different subsets" in score.remarks[1]


def test_other_originals_cannot_be_compared_unless_they_are_another_subset(compared):
    more = {"count": 150, "settings/reference/count": 150, "settings/reference/content_sha256": "ff"}
    (score,) = compared(b={**value("psnr", 21.0), **more}, a=value("psnr", 20.0), of=RECONSTRUCTION).scores
    assert score.outcome == "B better"
    assert "different subsets" in score.remarks[1]
    (score,) = compared(
        b={**more, f"{IMAGES}/data": "photos", f"{IMAGES}/fingerprint": {}}, of=RECONSTRUCTION
    ).scores
    assert score.outcome == "not comparable"


def test_the_inception_score_has_no_reference(compared):
    result = compared(a=value("is", 1.0), b={**value("is", 2.0), REFERENCE: None})
    assert result.scores[0].outcome == "B better"


# ---------------------------------------------------------------- what stands beside the verdict


def test_other_settings_are_listed(compared):
    changes = {f"{SAMPLER}/seed": 1, f"{SAMPLER}/solver": "heun", "settings/device": "cuda"}
    found = {d.name: (d.first, d.second) for d in compared(b=changes).differences}
    assert found == {
        "images.sampler.cfg_scale": (1.0, 1.5),
        "images.sampler.seed": (0, 1),
        "images.sampler.solver": ("euler", "heun"),
        "device": ("cpu", "cuda"),
    }
    found = {d.name: d.second for d in compared(b={f"{SAMPLER}/seed": MISSING}).differences}
    assert found["images.sampler.seed"] == "not recorded"


def test_internal_guidance_is_a_setting_of_the_sampler_and_off_where_nothing_is_said(compared):
    changes = {f"{SAMPLER}/cfg_scale": 1.0, f"{SAMPLER}/ig_scale": 1.5, f"{SAMPLER}/ig_interval": [0.1, 1.0]}
    comparison = compared(b=changes)
    assert {d.name: (d.first, d.second) for d in comparison.differences} == {
        "images.sampler.ig_scale": (1.0, 1.5),
        "images.sampler.ig_interval": ([0.0, 1.0], [0.1, 1.0]),
    }
    assert "comparab" not in comparison.scores[0].outcome
    assert compared(b={f"{SAMPLER}/ig_scale": 1.0, f"{SAMPLER}/cfg_scale": 1.0}).differences == []


def test_a_shared_seed_makes_the_noise_an_upper_bound(compared):
    assert "seed 0, image by image" in compared().remarks[0]
    assert compared(b={f"{SAMPLER}/seed": 1}).remarks == []
    assert "the same originals" in compared(b=value("psnr", 2.0), of=RECONSTRUCTION).remarks[0]


def test_the_same_images_with_other_values_are_a_reproducibility_problem(compared):
    same = {f"{IMAGES}/content_sha256": "11"}
    (score,) = compared(b={**same, "metrics/fid": 12.001}).scores
    assert score.outcome == "reproducibility problem"
    assert "on the same kind of machine" in score.why[0]
    (score,) = compared(b={**same, "metrics/fid": 12.001, "settings/device": "cuda"}).scores
    assert "device: cpu in A, cuda in B" in score.why[0]
    assert compared(b={**same, "metrics/fid": 12.0 + 1e-9}).scores[0].outcome == "equal"


SAME = {f"{IMAGES}/content_sha256": "11"}


def test_other_subsets_of_the_reference_are_no_reproducibility_problem(compared):
    other = {f"{REFERENCE}/content_sha256": "ff", f"{REFERENCE}/subset_seed": 1}
    (score,) = compared(a=value("kid", 1.0), b={**value("kid", 1.1), **SAME, **other}).scores
    assert score.outcome == "within noise"
    assert "different subsets" in score.remarks[0]


def test_a_file_of_statistics_is_the_same_reference(compared):
    adm = {REFERENCE: {"file": "adm.npz", "sha256": "12"}}
    (score,) = compared(a=adm, b={**adm, **SAME, "metrics/fid": 12.1}).scores
    assert score.outcome == "reproducibility problem"


def fdr(mean=1.0, **changes):
    """Changes that replace the scores of a result by fdr6 against published moments, of two spaces."""
    terms = {
        name: {"extractor": name, "sha256": "aa", "compared_with": {"file": f"{name}.npz", "sha256": name}}
        for name in ("fdr_mae", "fdr_clip")
    }
    for key, value in changes.items():
        terms["fdr_clip"] |= {key: value}
    return {
        "metrics": {"fdr_clip": 1.0, "fdr6": mean},
        "settings/metrics": {**terms, "fdr6": {"mean_of": terms}},
        "uncertainty": {},
        REFERENCE: None,
    }


@pytest.mark.parametrize(
    ("changes", "outcome"),
    [
        ({}, "noise unknown"),
        ({"weights": "elsewhere", "compared_with": {"file": "b.npz", "sha256": "fdr_clip"}}, "noise unknown"),
        ({"sha256": "bb"}, "not comparable"),
        ({"compared_with": {"file": "fdr_clip.npz", "sha256": "other"}}, "not comparable"),
        ({"precision": "bfloat16 autocast"}, "comparability unknown"),
    ],
)
def test_published_moments_are_a_reference(compared, changes, outcome):
    """Known by their hash, of the mean and of its terms, wherever they and the weights lie."""
    scores = {score.name: score for score in compared(a=fdr(), b=fdr(2.0, **changes)).scores}
    assert scores["fdr6"].outcome == outcome
    assert scores["fdr_clip"].outcome == ("equal" if outcome == "noise unknown" else outcome)


@pytest.mark.parametrize("name", ["is", "kid", "fid"])
@pytest.mark.parametrize(
    ("other", "known"),
    [
        ({}, True),
        ({f"{SAMPLER}/cfg_scale": 1.5}, True),
        ({f"{SAMPLER}/seed": 1}, False),
        ({f"{SAMPLER}/seed": MISSING}, False),
        ({f"{IMAGES}/kind": "folder", f"{IMAGES}/crop": "AsStored"}, False),
    ],
)
def test_where_the_order_counts_it_must_be_known(compared, name, other, known):
    (score,) = compared(a=value(name, 1.0), b={**value(name, 1.01), **SAME, **other}).scores
    if known or name == "fid":
        assert score.outcome == "reproducibility problem"
        assert not score.remarks
    else:
        assert score.outcome == "within noise"
        assert "whether in the same order is not known" in score.remarks[0]


def test_the_order_of_the_reference_counts_for_kid(compared):
    moved = {
        f"{REFERENCE}/fingerprint/path": "elsewhere"
    }  # files of the same names may hold each other's images
    (score,) = compared(a=value("kid", 1.0), b={**value("kid", 1.01), **SAME, **moved}).scores
    assert score.outcome == "within noise"
    (score,) = compared(a=value("is", 1.0), b={**value("is", 1.01), **SAME, **moved}).scores
    assert score.outcome == "reproducibility problem"


def test_pairs_must_be_known_to_be_the_same(compared):
    same = {**value("psnr", 20.01), **SAME}
    (score,) = compared(a={**value("psnr", 20.0), **SAME}, b=same, of=RECONSTRUCTION).scores
    assert score.outcome == "reproducibility problem"
    other = {f"{IMAGES}/fingerprint/path": "elsewhere"}
    (score,) = compared(a={**value("psnr", 20.0), **SAME}, b=same | other, of=RECONSTRUCTION).scores
    assert score.outcome == "within noise"


def test_the_same_images_need_no_labels(compared):
    npz = {f"{IMAGES}/kind": "npz", f"{IMAGES}/crop": "AsStored", SAMPLER: MISSING}
    for other in ({f"{SAMPLER}/label_sampling": MISSING}, npz):
        assert compared(b=other).scores[0].outcome == "comparability unknown"
        assert compared(b={**other, **SAME}).scores[0].outcome == "equal"


def test_the_same_settings_with_other_images_are_one_too(compared):
    (remark,) = [r for r in compared(b={f"{SAMPLER}/cfg_scale": 1.0}).remarks if "reproducibility" in r]
    assert "on the same kind of machine" in remark
    assert not any("reproducibility" in r for r in compared().remarks)


def test_scores_of_one_side_are_named(compared):
    metrics = GENERATION["metrics"]
    result = compared(a={"metrics": metrics | {"kid": 1.0}}, b={"metrics": metrics | {"is": 3.0}})
    assert ([score.name for score in result.scores], result.only_in_a, result.only_in_b) == (
        ["fid"],
        ["kid"],
        ["is"],
    )


def test_the_linear_probe(compared):
    probe = {
        "metrics": {"top1": 0.8, "knn": 0.7},
        "uncertainty": {"top1": 0.01, "knn": 0.01},
        "count": 1000,
        "settings": {"data": "emoji", "crop": "AdmCenterCrop", "fingerprints": {"val": {"count": 1000}}},
    }
    better = {"metrics": {"top1": 0.9, "knn": 0.71}}
    result = compared(
        a=probe, b={**probe, **better}, of={**GENERATION, "settings": {"images": {"sampler": {}}}}
    )
    assert [score.outcome for score in result.scores] == ["B better", "within noise"]
    assert "both classify the same images" in result.remarks[0]
    other = {**probe, "settings": {**probe["settings"], "fingerprints": {"val": {"count": 999}}}}
    result = compared(a=probe, b=other, of={**GENERATION, "settings": {"images": {"sampler": {}}}})
    assert [score.outcome for score in result.scores] == ["not comparable", "not comparable"]
    assert result.scores[0].why == ["reference's fingerprint.val.count: 1000 in A, 999 in B"]


def test_a_linear_probe_does_not_depend_on_how_its_folder_is_called(compared):
    def probe(path, names="ab", **content):
        content = {"bytes_sha256": "ef" * 32, "bytes_read": "all"} | content
        splits = {
            split: {
                "source": "image_folder",
                "split": split,
                "path": path,
                "names_sha256": names * 32,
                **content,
            }
            for split in ("train", "val")
        }
        return {
            "metrics": {"top1": 0.8},
            "uncertainty": {"top1": 0.01},
            "count": 1000,
            "settings": {"data": "image_folder", "crop": "AdmCenterCrop", "fingerprints": splits},
        }

    of = {**GENERATION, "settings": {"images": {"sampler": {}}}}
    result = compared(a=probe("pictures"), b=probe("/data/pictures"), of=of)
    assert result.scores[0].outcome == "equal"
    assert "fingerprint.val.path: pictures in A, /data/pictures in B" in result.scores[0].remarks[1]
    assert "both classify the same images" in result.remarks[0]
    result = compared(a=probe("pictures"), b=probe("pictures", names="cd"), of=of)
    assert result.scores[0].why[1] == (
        f"reference's fingerprint.val.names_sha256: {'ab' * 18}a… in A, {'cd' * 18}c… in B"
    )
    result = compared(a=probe("pictures"), b=probe("pictures", bytes_sha256="12" * 32), of=of)
    assert result.scores[0].outcome == "not comparable"
    assert "bytes_sha256" in result.scores[0].why[0]
    result = compared(
        a=probe("pictures"), b=probe("pictures", bytes_sha256="12" * 32, bytes_read="a sample"), of=of
    )
    assert result.scores[0].outcome == "comparability unknown"


def test_records_of_names_alone_do_not_show_that_images_are_the_same(compared):
    splits = {
        split: {"source": "image_folder", "split": split, "names_sha256": "ab"} for split in ("train", "val")
    }
    probe = {
        "metrics": {"top1": 0.8},
        "uncertainty": {"top1": 0.01},
        "count": 1000,
        "settings": {
            "data": "image_folder",
            "crop": "AdmCenterCrop",
            "fingerprints": splits,
            "input_size_px": 64,
        },
    }
    of = {**GENERATION, "settings": {"images": {"sampler": {}}}}
    result = compared(a=probe, b=probe, of=of)
    assert result.scores[0].outcome == "comparability unknown"
    assert result.scores[0].why[0] == "contents of the reference's images not recorded in A and B"

    def seen(pixels, size=64):
        return {**probe, "settings": {**probe["settings"], "content_sha256": pixels, "input_size_px": size}}

    assert compared(a=seen("12"), b=seen("12"), of=of).scores[0].outcome == "equal"
    assert compared(a=seen("12"), b=seen("34"), of=of).scores[0].outcome == "not comparable"
    assert compared(a=seen("12"), b=seen("34", size=32), of=of).scores[0].outcome == "comparability unknown"


def test_how_pairs_were_found_must_be_known(compared):
    def pairs(**images):
        images = {"kind": "folder", "size_px": [32, 32], "content_sha256": "11", "crop": "AsStored", **images}
        return {
            "metrics": {"psnr": 20.0},
            "uncertainty": {"psnr": {"standard_error": 0.1}},
            "count": 24,
            "settings": {
                "images": images,
                "reference": {"content_sha256": "22", "purpose": "generation"},
                "metrics": {"psnr": {"bits": 8}},
            },
        }

    of = {**GENERATION, "settings": {"images": {"sampler": {}}}}
    result = compared(a=pairs(), b=pairs(paired_by="numbers"), of=of)
    assert result.scores[0].outcome == "comparability unknown"
    assert result.scores[0].why[0] == "how images were paired not recorded in A"
    assert (
        compared(a=pairs(paired_by="numbers"), b=pairs(paired_by="numbers"), of=of).scores[0].outcome
        == "equal"
    )


# ---------------------------------------------------------------- mistakes


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        (
            '{"scores": {"fid": 1.0}, "count": 3, "settings": {}}',
            DataError,
            "older version.*repeat the evaluation",
        ),
        ("[1, 2]", DataError, "no result of an evaluation"),
        ('{"metrics": {"fid": NaN}, "settings": {}}', DataError, "fid is nan, not a finite number"),
        ("{", UserError, "not valid JSON"),
    ],
)
def test_files_that_are_no_results(tmp_path, content, error, message):
    file = tmp_path / "r.json"
    file.write_text(content)
    with pytest.raises(error, match=message):
        read_result(file)


def test_bytes_and_folders_are_no_json(tmp_path):
    (tmp_path / "r.npz").write_bytes(b"\xff\xfe\x00\x80")
    for path in (tmp_path / "r.npz", tmp_path):
        with pytest.raises(UserError, match="is not a JSON file"):
            read_result(path)


def test_an_unknown_score(compared):
    with pytest.raises(ConfigError, match="beauty is no score known here; known are fid"):
        compared(a={"metrics": {"beauty": 1.0}}, b={"metrics": {"beauty": 2.0}})


@pytest.mark.parametrize("metrics", ["fd_mae", "fid_random_inception"])
def test_reconstructions_that_an_older_version_kept_by_another_spelling_have_todays_name(compared, metrics):
    both = {"a": value(metrics, 1.0), "b": value(f"r{metrics}", 2.0)}
    comparison = compared(**both, of=RECONSTRUCTION)
    assert [(score.name, score.outcome) for score in comparison.scores] == [(f"r{metrics}", "A better")]
    assert (comparison.only_in_a, comparison.only_in_b) == ([], [])


def test_other_images_keep_their_scores_names(compared):
    (score,) = compared(a=value("fd_mae", 1.0), b=value("fd_mae", 2.0)).scores
    assert score.name == "fd_mae"


def test_results_without_a_common_score_are_an_error_that_names_those_of_both(compared):
    with pytest.raises(DataError, match=r"stands in both results: \S*a\.json has fid, \S*b\.json has is\."):
        compared(b=value("is", 4.0))
