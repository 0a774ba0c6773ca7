"""That RAEv2 and ours compute the same: equal weights and inputs, before they are timed beside each other."""

import copy
from typing import Any

import official_v2
import ours

_TOLERATED = 1e-3
"""Relative, in float32. Updates of Muon may differ by more: RAEv2's are rounded to bfloat16 before and after."""
_TOLERATED_OF_MUON = 2e-2


def networks(root: str, options: dict[str, Any]) -> dict[str, float]:
    """Both outputs of a network, and a few evaluations of the sampler with the guidance of a case."""
    import torch

    theirs, own = _pair(root, options)
    x = torch.randn(2, 768, 16, 16, device=ours.device())
    t, labels = torch.tensor([0.3, 0.9], device=x.device), torch.tensor([7, 1000], device=x.device)
    with torch.no_grad():
        found = dict(
            zip(
                ("full", "base"),
                map(_apart, own.predict_with_base(x, t, labels), theirs(x, t, context=labels)),
                strict=True,
            )
        )
        if "evaluations" in options:
            found["samples"] = _samples_apart(theirs, own, x, options)
    return _checked(found, _TOLERATED)


def muon(root: str, options: dict[str, Any]) -> dict[str, float]:
    """Three updates of all matrices, products in float32."""
    import torch

    from unirae.models.interop.official.dit_v2 import dit_v2_from_official

    theirs, own = _pair(root, options)
    before = copy.deepcopy(own.state_dict())
    matrices = {name: p for name, p in theirs.named_parameters() if p.ndim == 2}
    optimizers = (
        official_v2.build_optimizer("gmuon", list(matrices.values()), "float32"),
        ours.build_muon(own, "fp32"),
    )
    for _ in range(3):
        for parameter in theirs.parameters():
            parameter.grad = torch.randn_like(parameter)
        gradients = {
            name: theirs.get_parameter(name).grad if name in dict(theirs.named_parameters()) else buffer
            for name, buffer in theirs.state_dict().items()
        }
        for name, gradient in dit_v2_from_official(gradients, own).items():
            parameter = own.get_parameter(name) if name in dict(own.named_parameters()) else None
            if parameter is not None and parameter.requires_grad:
                parameter.grad = gradient.clone()
        for optimizer in optimizers:
            optimizer.step()
    after, wanted = own.state_dict(), dit_v2_from_official(theirs.state_dict(), own)
    moves = [(after[name] - old, wanted[name] - old) for name, old in before.items() if name in wanted]
    # what only one side moves must not pass unseen
    distances = [
        _apart(ours_by, theirs_by) for ours_by, theirs_by in moves if ours_by.any() or theirs_by.any()
    ]
    return _checked({"updates": max(distances)}, _TOLERATED_OF_MUON)


def _pair(root: str, options: dict[str, Any]) -> tuple[Any, Any]:
    """Their network and ours, of the same random weights."""
    import torch

    from unirae.core.strict import load_strictly
    from unirae.models.interop.official.dit_v2 import dit_v2_from_official

    official_v2.enter(root, options.get("gram"))
    theirs = official_v2.build_dit(options["dit"]).eval()
    for parameter in theirs.parameters():
        if not parameter.detach().any():  # modulations of new networks are zero
            torch.nn.init.normal_(parameter, std=0.02)
    own = ours.build_dit(options["dit"], "dit_v2_dummy").eval().to(ours.device())
    load_strictly(own, dit_v2_from_official(theirs.state_dict(), own), what="DiT")
    return theirs, own


def _samples_apart(theirs: Any, own: Any, noise: Any, options: dict[str, Any]) -> float:
    import torch

    from unirae.evaluation.sampling.sampler import sample_latents

    labels, scales = torch.arange(len(noise), device=noise.device), (options["ig"], options["cfg"])
    sample = official_v2.sampler(theirs, evaluations=4, ig=scales[0], cfg=scales[1])
    made = sample_latents(
        own,
        noise=noise,
        labels=labels,
        num_steps=5,
        time_grid="linear",
        ig_scale=scales[0],
        cfg_scale=scales[1],
    )
    return _apart(made, sample(noise, labels))


def _apart(found: Any, expected: Any) -> float:
    return float((found - expected).norm() / expected.norm())


def _checked(found: dict[str, float], tolerated: float) -> dict[str, float]:
    if not max(found.values()) <= tolerated:
        raise RuntimeError(f"ours and RAEv2 do not compute the same: relative differences {found}")
    return {name: float(f"{distance:.1e}") for name, distance in found.items()}
