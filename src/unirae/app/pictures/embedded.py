"""Pictures inside a page, which then is one file that loads nothing from outside."""

import base64


def data_uri(png: bytes) -> str:
    """A PNG as the ``src`` of an ``<img>``."""
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"
