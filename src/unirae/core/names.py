"""Names of files as text: what a file system holds need be neither UTF-8 nor a single line."""

_SHOWN = 60


def printable(name: str) -> str:
    r"""A file's name as text that every encoder takes: a byte that is not UTF-8 becomes ``\xe9``.

    Python carries such bytes as lone surrogates, which can be neither encoded nor sent. Two names that differ stay
    different, unless one spells the other's escape.
    """
    return name.encode(errors="surrogateescape").decode(errors="backslashreplace")


def on_one_line(name: str, *, most: int = _SHOWN) -> str:
    """A name for a line of the log or of an error: without line breaks, and shortened to ``most`` characters."""
    text = "".join(c if c >= " " and c != "\x7f" else repr(c)[1:-1] for c in printable(name))
    return text if len(text) <= most else f"{text[: most - 1]}…"


def count_of(number: int, one: str, more: str | None = None) -> str:
    """Join a number and its noun: ``1 class``, ``2 classes``; the plural is with an s unless given."""
    return f"{number} {one if number == 1 else more or one + 's'}"


def first_of(names: list[str] | tuple[str, ...], *, most: int = 3, quoted: bool = False) -> str:
    """The first names, and how many more there are: ``a, b, c and 7 more``.

    Args:
        quoted: in a sentence, where a name such as ``rejected`` would be read as a word of it.
    """
    mark = "'" if quoted else ""
    shown = ", ".join(f"{mark}{on_one_line(name)}{mark}" for name in names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"
