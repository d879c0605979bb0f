"""An audit as an object: the content of ``audit.json``, read by attribute. No torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["Audit", "Section"]


class Section(Mapping[str, Any]):
    """A part of a record, whose keys are attributes too: ``section.bound`` and ``section["bound"]`` are the same.

    Example:
        >>> Section({"total": {"value": 2.0}}).total.value
        2.0
    """

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = dict(values)

    def __getitem__(self, key: str) -> Any:
        return _wrapped(self._values[key])

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name not in self._values:
            raise AttributeError(f"there is no {name!r} here; there are {', '.join(self.__dict__.get('_values', ()))}")
        return self[name]

    def __repr__(self) -> str:
        return f"Section({self._values!r})"


def _wrapped(value: Any) -> Any:
    if isinstance(value, Mapping):
        return Section(value)
    return [_wrapped(entry) for entry in value] if isinstance(value, list) else value


@dataclass(frozen=True)
class Audit:
    """What an audit found; each property is a section of ``audit.json``, None where it could not be measured.

    Args:
        record: The whole content of ``audit.json``.
        path: The file it was written to, None where it was not.
    """

    record: Mapping[str, Any]
    path: Path | None = None

    def __repr__(self) -> str:
        return f"Audit({str(self.path)!r})" if self.path else "Audit(not written)"

    @property
    def subject(self) -> Section:
        """What was audited."""
        return self._section("subject")

    @property
    def settings(self) -> Section:
        """How."""
        return self._section("settings")

    @property
    def layers(self) -> list[Section]:
        """Distances, trace, Hessian distance and term of the bound of each layer."""
        return [Section(layer) for layer in self.record["layers"]]

    @property
    def totals(self) -> Section:
        """The same over all layers."""
        return self._section("totals")

    @property
    def spectrum(self) -> Section | None:
        """Extreme eigenvalues and spectral density of the Hessian."""
        return self._section("spectrum")

    @property
    def noise_stability(self) -> list[Section]:
        """Growth of the loss under noise on the weights, one entry a scale."""
        return [Section(entry) for entry in self.record["noise_stability"]]

    @property
    def bound(self) -> Section | None:
        """The generalization bound with its assumptions; ``bound.bound`` is the number, ``bound.vacuous`` whether it says nothing."""
        return self._section("bound")

    @property
    def gap(self) -> Section:
        """Losses and accuracies on training and held-out examples, and the difference of the losses."""
        return self._section("gap")

    @property
    def features(self) -> Section | None:
        """Size, spread and separation of the features, before and after."""
        return self._section("features")

    @property
    def calibration(self) -> Section | None:
        """How well confidences match accuracies on held-out examples."""
        return self._section("calibration")

    @property
    def notes(self) -> list[str]:
        """What was left out or not met, and what to type for it."""
        return list(self.record["notes"])

    @property
    def cost(self) -> Section:
        """Products with the Hessian, seconds and memory."""
        return self._section("cost")

    def _section(self, name: str) -> Any:
        return _wrapped(self.record[name])
