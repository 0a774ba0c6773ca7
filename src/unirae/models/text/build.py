"""Construction of text encoders: from a folder, a hub's name, or the package that carries a small one."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from unirae.core.arguments import argument
from unirae.core.differences import shortened
from unirae.core.errors import ConfigError, UserError, WeightsError
from unirae.core.hub import first_line
from unirae.core.io import module_sha256, sha256_of_text
from unirae.core.log import get_logger
from unirae.core.weights import carried_folder
from unirae.models.hf_loading import here_first, quiet_transformers
from unirae.models.text.encoder import TextEncoder
from unirae.models.text.identity import TextEncoderIdentity
from unirae.models.text.packaged import NAME, SHA256, packaged_folder

log = get_logger(__name__)

MAX_LENGTH = 256
"""RAEv2's (recipe, section 8)."""
_TEXT_PARTS = {"clip": "CLIPTextModel", "siglip": "SiglipTextModel", "siglip2": "Siglip2TextModel"}
"""Families of pairs of an image and a text encoder: the class of the latter."""
_UNUSED = ("pooler", "embeddings.position_ids")
"""Parts of a model that its hidden states do not go through."""
_OFFSET_POSITIONS = ("roberta", "xlm-roberta", "camembert")
"""Families whose table of positions begins behind that of the filling."""
_PROBES = ("", "A photo of 3 cats, and a naïve dog!", "日本語 и мир مرحبا 😀")


def load_text_encoder(
    name: str | Path, *, max_length: int = MAX_LENGTH, layer: int | None = None, remedy: str | None = None
) -> TextEncoder:
    """A frozen text encoder of transformers, on the CPU.

    Args:
        name: a folder with ``config.json``, weights and tokenizer; a hub's name, such as ``Qwen/Qwen3-0.6B``; or
            ``minilm``, the small one that the package of the extra ``words`` holds.
        max_length: the number of tokens that longer texts are cut to.
        layer: which of transformers' hidden states: 0 is the embeddings, -1 the last, which CLIP has no norm of; None
            is the last after the final norm, which is RAEv2's.
        remedy: what to tell a user who lacks it.

    Raises:
        ConfigError: If the model cannot read so many tokens, or has no such layer.
        WeightsError: If model or tokenizer are missing or damaged.
    """
    try:
        source = _source_of(str(name))
        log.info("loading the text encoder from %s", source)
        return _loaded(source, str(name), max_length, layer)
    except WeightsError as error:
        raise WeightsError(f"{error}. {remedy or _usual_remedy(str(name))}") from None


def _loaded(source: str, name: str, max_length: int, layer: int | None) -> TextEncoder:
    config, model = here_first(source, partial(_model, source), what="the text encoder")
    tokenizer = here_first(source, partial(_tokenizer, source), what="the tokenizer")
    _check_length(config, tokenizer, max_length, name)
    _check_together(model, tokenizer, source)
    identity = TextEncoderIdentity(
        name=name,
        source=NAME if name == NAME else source,
        model_type=config.model_type,
        sha256=module_sha256(model),
        tokenizer_sha256=_tokenizer_sha256(tokenizer),
        max_length=max_length,
        layer=layer,
        width=0,
    )
    return TextEncoder(model=model, tokenizer=tokenizer, identity=_measured(model, tokenizer, identity))


def find_text_encoder(name: str) -> None:
    """Look for a text encoder without opening it.

    Raises:
        WeightsError: If it is not where the name says; one of a hub is not asked for.
    """
    _source_of(name)


def text_encoder_of(identity: TextEncoderIdentity, *, name: str | Path | None = None) -> TextEncoder:
    """The text encoder that a network was trained with.

    Args:
        name: where it lies now, if not where the identity says.

    Raises:
        WeightsError: If it is missing, or is another one.
    """
    there = identity.source
    if Path(there).is_absolute() and not Path(there).is_dir():  # carried to another machine
        there = identity.hub_name or there
    found = load_text_encoder(
        there if name is None else name,
        max_length=identity.max_length,
        layer=identity.layer,
        remedy=f"Say where it is with {argument('text_encoder', 'PATH')}",
    )
    check_text_encoder(identity, found)
    return found


def check_text_encoder(identity: TextEncoderIdentity, found: TextEncoder) -> None:
    """Refuse a text encoder that makes other tokens than the one that a network was trained with.

    Raises:
        WeightsError: If it is another one; the message says in what.
    """
    if different := identity.differences(found.identity):
        raise WeightsError(
            f"the text encoder {found.identity.name} is not the one that the network was trained with "
            f"({identity.name}): {'; '.join(different)}. Give that one with {argument('text_encoder', 'PATH')}"
        )


def stamp_of(name: str) -> str | None:
    """Hash of the names, sizes and times of a text encoder's files, in a folder or in a hub's cache.

    None where they are in neither.
    """
    if name == NAME:
        return SHA256
    folder = Path(name).expanduser()
    if not folder.is_dir():
        folder = _folder_of_hub(name)
    if folder is None:
        return None
    stats = [(file.name, file.stat()) for file in sorted(folder.iterdir()) if file.is_file()]
    return sha256_of_text(json.dumps([(file, stat.st_size, stat.st_mtime_ns) for file, stat in stats]))


def _folder_of_hub(name: str) -> Path | None:
    """The folder that a hub's name is read from: in the folder of weights that was carried here, or the hub's cache."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        carried = carried_folder(name)
        config = (
            try_to_load_from_cache(name, "config.json") if carried is None else str(carried / "config.json")
        )
    except (WeightsError, HFValidationError):
        return None
    return Path(config).parent if isinstance(config, str) else None


def is_here(name: str) -> bool:
    """Say whether a text encoder of a hub's name can be loaded without asking the hub."""
    try:
        source = _source_of(name)
        here_first(source, partial(_tokenizer, source), local_only=True)
    except WeightsError:
        return False
    return True


def _source_of(name: str) -> str:
    """Where a name is read from: a folder, or the hub's name."""
    if name == NAME:
        return str(packaged_folder())
    if not name.strip():
        raise ConfigError(f"{argument('text_encoder', repr(name))} is empty. {_usual_remedy(name)}")
    path = Path(name).expanduser()
    if path.is_dir():
        return str(path.resolve())
    if path.exists() or name.count("/") != 1 or name.startswith((".", "/", "~")):
        what = "is no folder" if path.exists() else "does not exist"
        raise WeightsError(f"the text encoder {name} {what}")
    carried = carried_folder(name)
    return name if carried is None else str(carried)


def _usual_remedy(name: str) -> str:
    if name == NAME:
        return "Or give the folder of another text encoder, or its hub's name"
    on_hub = name if name.count("/") == 1 and not name.startswith((".", "/", "~")) else "OWNER/NAME"
    return (
        f"Give a folder with config.json, weights and tokenizer, as `hf download {on_hub} --local-dir DIR` makes it, "
        f"or {NAME!r}, which the package of the extra `words` holds"
    )


def _model(source: str, *, local_files_only: bool) -> tuple[Any, Any]:
    """The configuration and the model, in float32."""
    import transformers
    from safetensors import SafetensorError

    with _explained(source, "configuration"):
        config = transformers.AutoConfig.from_pretrained(source, local_files_only=local_files_only)
    name = _TEXT_PARTS.get(config.model_type)
    if name is None:
        name = "AutoModelForTextEncoding" if getattr(config, "is_encoder_decoder", False) else "AutoModel"
    try:
        with _explained(source, "model"):
            model, info = getattr(transformers, name).from_pretrained(
                source,
                dtype=torch.float32,
                local_files_only=local_files_only,
                output_loading_info=True,
                ignore_mismatched_sizes=True,
            )
    except SafetensorError as error:
        raise WeightsError(
            f"{source}: the weight file is truncated or damaged ({first_line(error)})"
        ) from None
    missing = sorted(key for key in info["missing_keys"] if not any(part in key for part in _UNUSED))
    wrong = [*missing, *sorted(map(_sizes, info["mismatched_keys"]))]
    if wrong:
        raise WeightsError(
            f"{source}: {len(wrong)} tensors of {type(model).__name__} are missing or of another size, such as "
            f"{wrong[0]}"
        )
    return config, model


def _sizes(mismatched: tuple[str, Sequence[int], Sequence[int]]) -> str:
    key, there, wanted = mismatched
    return f"{key} ({list(there)} in the file, {list(wanted)} by config.json)"


@contextmanager
def _explained(source: str, what: str) -> Iterator[None]:
    """Say in one line that a file of a folder is damaged; what the hub answers is explained by the caller."""
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, ValueError, SafetensorError, UserError):
        raise
    except Exception as error:  # whatever strange content brings about in the readers
        said = " ".join(str(error).split()) or type(error).__name__
        raise WeightsError(f"{source}: the {what} cannot be read ({shortened(said, 200)})") from None


def _tokenizer(source: str, *, local_files_only: bool) -> Any:
    from transformers import AutoTokenizer

    try:
        with _explained(source, "tokenizer"):
            tokenizer = AutoTokenizer.from_pretrained(source, local_files_only=local_files_only)
            words = tokenizer.get_vocab().keys() - tokenizer.added_tokens_encoder.keys()
            _probed(tokenizer)
    except (OSError, ValueError) as error:
        if not Path(source).is_dir():
            raise
        raise WeightsError(f"{source} has no tokenizer that can be read ({first_line(error)})") from None
    if len(words) < 2:  # transformers makes one without words where there is none
        raise WeightsError(
            f"{source} has no tokenizer: tokenizer.json, or the files of its vocabulary, are missing"
        )
    return tokenizer


def _tokenizer_sha256(tokenizer: Any) -> str:
    """Hash of the vocabulary, of what becomes of a few texts, and of the side that is cut where it is the left one.

    It is the same in all versions of the library.
    """
    side = getattr(tokenizer, "truncation_side", "right")
    content = [
        sorted(tokenizer.get_vocab().items()),
        _probed(tokenizer),
        *([] if side == "right" else [side]),
    ]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def _probed(tokenizer: Any) -> list[list[int]]:
    return [list(tokenizer(text, verbose=False)["input_ids"]) for text in _PROBES]


def _check_length(config: Any, tokenizer: Any, max_length: int, name: str) -> None:
    text = config.get_text_config()
    most = getattr(text, "max_position_embeddings", None)
    if most is not None and text.model_type in _OFFSET_POSITIONS:
        most -= text.pad_token_id + 1
    given = argument("text_encoder.max_length", max_length)
    if most is not None and max_length > most:
        raise ConfigError(f"{given}: the text encoder {name} reads {most} tokens at most")
    if max_length <= (added := tokenizer.num_special_tokens_to_add()):
        adds = f"; its tokenizer puts {added} around each text" if added else ""
        raise ConfigError(f"{given}: the text encoder {name} needs at least {added + 1}{adds}")


def _check_together(model: Any, tokenizer: Any, source: str) -> None:
    """Refuse a tokenizer with more words than the model; tokens that are added to it may well be unknown there."""
    known = model.get_input_embeddings()
    if not isinstance(known, torch.nn.Embedding):
        raise WeightsError(f"{source} is no text encoder: {type(model).__name__} has no table of tokens")
    added = tokenizer.added_tokens_encoder
    largest = max(number for token, number in tokenizer.get_vocab().items() if token not in added)
    if largest >= known.num_embeddings:
        raise WeightsError(
            f"{source}: the tokenizer has tokens up to number {largest}, and the model knows {known.num_embeddings}: "
            "they are not of one model"
        )


def _measured(model: Any, tokenizer: Any, identity: TextEncoderIdentity) -> TextEncoderIdentity:
    """The identity with the width of the chosen layer's states, which a text is sent through the model for."""
    ids = tokenizer("a", verbose=False)["input_ids"][: identity.max_length]
    with torch.no_grad(), quiet_transformers(), _explained(identity.source, "text encoder"):
        found = model.eval()(input_ids=torch.tensor([ids]), output_hidden_states=True)
    count, layer = len(found.hidden_states), identity.layer
    if layer is not None and not -count <= layer < count:
        raise ConfigError(
            f"{argument('text_encoder.layer', layer)}: the text encoder {identity.name} has the hidden states 0 to "
            f"{count - 1} (0 is the embeddings), or -1 to -{count} from the end"
        )
    state = found.last_hidden_state if layer is None else found.hidden_states[layer]
    if not bool(state.isfinite().all()):
        raise WeightsError(
            f"{identity.source}: the text encoder makes NaN or infinity of 'a': its weights are broken"
        )
    return replace(identity, width=int(state.shape[-1]))
