"""The same image or text in two splits: what is learned by heart there looks like skill."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from holdfast.data.splits import SPLITS

__all__ = ["duplicate_note"]

_SHOWN = 3


class _Image(NamedTuple):
    id: str
    label: str
    split: str


def duplicate_note(images: Iterable[tuple[str, str, str]], digests: Mapping[str, str], unit: str = "image") -> str | None:
    """One sentence on the examples of val and test that an earlier split holds byte for byte, or None where there are none.

    Args:
        images: Id, class name and split of each example.
        digests: SHA-256 of the bytes of each, by id.
        unit: What an example is called.
    """
    first: dict[str, _Image] = {}
    pairs: list[tuple[_Image, _Image]] = []
    for image in sorted((_Image(*image) for image in images), key=lambda image: (SPLITS.index(image.split), image.id)):
        known = first.setdefault(digests[image.id], image)
        if known.split != image.split:
            pairs.append((image, known))
    if not pairs:
        return None
    splits = " and ".join(name for name in SPLITS if any(image.split == name for image, _ in pairs))
    number = f"1 {unit}" if len(pairs) == 1 else f"{len(pairs)} {unit}s"
    verb = "is a copy" if len(pairs) == 1 else "are copies"
    article = "an" if unit == "image" else "a"
    other = sum(image.label != known.label for image, known in pairs)
    differing = f", {other} of them under another label" if other else ""
    shown = ", ".join(f"{image.id!r} = {known.id!r}" for image, known in pairs[:_SHOWN])
    more = f" and {len(pairs) - _SHOWN} more" if len(pairs) > _SHOWN else ""
    return (
        f"{number} of {splits} {verb} of {article} {unit} in another split, byte for byte{differing}: {shown}{more}. Results on them say "
        f"nothing about new {unit}s; delete one of each, or give copies a common group with --group-by."
    )
