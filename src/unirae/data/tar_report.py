"""What was found in shards, in one line of the log."""

import logging
from collections.abc import Sequence

from unirae.core.errors import DataError
from unirae.core.log import get_logger, log_once
from unirae.core.names import count_of, first_of, on_one_line
from unirae.data.tar_index import ShardIndex
from unirae.data.tar_samples import Found

log = get_logger(__name__)


def say_found(where: str, indexes: Sequence[ShardIndex]) -> None:
    """Log in one line what the shards hold and what of it is not used; a warning where a user may miss something.

    Raises:
        DataError: If there is no picture.
    """
    found = Found()
    for index in indexes:
        found.add(index.found)
    captioned = sum(index.captioned() for index in indexes)
    parts = _losses(found)
    remarks = _remarks(found)
    left_out = "; ".join((*parts, *remarks))
    if not found.pictures:
        raise DataError(
            f"{where}: no picture is in its {count_of(len(indexes), 'tar')}; expected members KEY.jpg, .jpeg, .png or "
            f".webp, where KEY ends at the first dot of the name{'. Found: ' + left_out if left_out else ''}"
        )
    line = f"{on_one_line(where)}: {count_of(len(indexes), 'shard')}, {count_of(found.pictures, 'picture')}"
    if captioned:
        line += f", {captioned} of them with captions"
    log_once(log, logging.WARNING if parts else logging.INFO, line + (f"; {left_out}" if left_out else ""))


def _losses(found: Found) -> list[str]:
    """What a user may miss."""
    parts = []
    if found.damage:
        shards = [f"{on_one_line(shard)}: {why}" for shard, why in list(found.damage.items())[:3]]
        more = f" and {len(found.damage) - 3} more" if len(found.damage) > 3 else ""
        parts.append(
            f"damaged: {count_of(len(found.damage), 'shard')}, of which what is whole is used "
            f"({'; '.join(shards)}{more}): {count_of(found.cut, 'sample')} and what followed there are lost, copy them "
            "again"
        )
    if unmarked := found.names.get("unmarked"):
        parts.append(f"without the mark of their end, perhaps cut between two members: {first_of(unmarked)}")
    for why, count in sorted(found.unreadable.items()):
        parts.append(f"captions or labels that are {why}: {count} ({first_of(found.names[why])})")
    if found.lone:
        parts.append(f"captions or labels without a picture: {found.lone} ({first_of(found.names['lone'])})")
    links = [
        count_of(count, noun)
        for count, noun in (
            (found.links, "link"),
            (found.sparse, "sparse file"),
            (found.other, "device or pipe"),
        )
        if count
    ]
    return [*parts, f"not read: {', '.join(links)}"] if links else parts


def _remarks(found: Found) -> list[str]:
    kinds = [f"{kind or 'without a kind'} ({count})" for kind, count in found.kinds.most_common(6)]
    more = f" and {len(found.kinds) - 6} kinds more" if len(found.kinds) > 6 else ""
    return [f"members of other kinds: {', '.join(kinds)}{more}"] if kinds else []
