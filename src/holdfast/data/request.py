"""What a batch is asked for by: rows, and for which showing of them."""

from __future__ import annotations

from dataclasses import dataclass

from holdfast.data.source import IntArray

__all__ = ["Request"]


@dataclass(frozen=True)
class Request:
    """Examples to serve: as training shows them in an epoch, or as evaluation does where ``epoch`` is None.

    ``repeats`` counts how often each was shown before in this epoch, so that an augmented image looks different each time; None where
    none was. ``view`` numbers further views of the same showing, which look different too.
    """

    rows: IntArray
    seed: int = 0
    epoch: int | None = None
    repeats: IntArray | None = None
    view: int = 0
