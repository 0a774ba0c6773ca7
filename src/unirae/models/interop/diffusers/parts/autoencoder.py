"""diffusers' AutoencoderRAE with what a trained one of ours has beside it: positions, and the encoder's own sizes."""

import inspect
from typing import Any

from diffusers import AutoencoderRAE


class AutoencoderRAEWithPositions(AutoencoderRAE):
    """The decoder's positions are read from the file and saved, and the encoder is built as configured.

    diffusers drops the positions, which RAE trains with the decoder, and knows of an encoder only width, depth and
    patch size. Nothing else differs.
    """

    _keys_to_ignore_on_load_unexpected = None

    def __init__(self, *args: Any, encoder_config: dict[str, Any] | None = None, **options: Any) -> None:
        super().__init__(*args, **options)
        if encoder_config is not None:
            self.register_to_config(encoder_config=encoder_config)
            self.encoder = self._own_encoder(dict(encoder_config))
        decoder: Any = self.decoder
        positions = decoder.decoder_pos_embed
        del decoder.decoder_pos_embed
        decoder.register_buffer("decoder_pos_embed", positions)  # persistent now

    # diffusers reads the arguments' names off the signature
    __init__.__signature__ = inspect.signature(AutoencoderRAE.__init__).replace(  # pyright: ignore[reportFunctionMemberAccess]
        parameters=[
            *inspect.signature(AutoencoderRAE.__init__).parameters.values(),
            inspect.Parameter("encoder_config", inspect.Parameter.KEYWORD_ONLY, default=None),
        ]
    )

    def _own_encoder(self, values: dict[str, Any]) -> Any:
        """An encoder of the class that diffusers chose, of other sizes, its last norm without weights as there."""
        theirs: Any = self.encoder
        values.pop("model_type")
        model = type(theirs)(type(theirs.config)(**values))
        norm = model.vision_model.post_layernorm if hasattr(model, "vision_model") else model.layernorm
        norm.weight = norm.bias = None
        return model.requires_grad_(False)
