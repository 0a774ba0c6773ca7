"""diffusers' AutoencoderRAE, which drops the decoder's positions, with the positions kept."""

from functools import wraps
from typing import Any

from diffusers import AutoencoderRAE


class AutoencoderRAEWithPositions(AutoencoderRAE):
    """The positions, which RAE trains with the decoder, are read from the file and saved; nothing else differs."""

    _keys_to_ignore_on_load_unexpected = None

    @wraps(AutoencoderRAE.__init__)  # diffusers reads the arguments' names off the signature
    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        decoder: Any = self.decoder
        positions = decoder.decoder_pos_embed
        del decoder.decoder_pos_embed
        decoder.register_buffer("decoder_pos_embed", positions)  # persistent now
