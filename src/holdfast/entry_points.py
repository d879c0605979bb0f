"""Methods that installed packages publish under an entry point, found by name without importing anything of theirs.

A package publishes ``pull`` with these lines of its ``pyproject.toml``::

    [project.entry-points."holdfast.regularizers"]
    pull = "their_package.pull"

Regularizers and task losses share the one group. Importing what stands behind the name runs its ``@register``.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata

from holdfast.errors import ConfigError, describe

__all__ = ["GROUP", "Published", "published"]

GROUP = "holdfast.regularizers"

log = logging.getLogger("holdfast")


@dataclass(frozen=True)
class Published:
    """A method that a package promises.

    Args:
        name: What the user types.
        target: ``module`` or ``module:Class``, whose import registers the method.
        package: Name of the distribution.
        version: Its version.
    """

    name: str
    target: str
    package: str
    version: str

    def __str__(self) -> str:
        return f"{self.package} {self.version}"

    def load(self) -> None:
        """Import what stands behind the name.

        Raises:
            ConfigError: The import fails; one sentence that names the package.
        """
        try:
            metadata.EntryPoint(self.name, self.target, GROUP).load()
        except (Exception, SystemExit) as error:
            raise ConfigError(f"the method {self.name!r} of the package {self} cannot be imported: {describe(error)}.") from error


def published() -> dict[str, list[Published]]:
    """What installed packages publish, by name of the method: one entry, or several where packages use the same name."""
    found: dict[str, list[Published]] = {}
    seen: set[str] = set()
    for distribution in metadata.distributions():
        methods = list(_methods_of(distribution))
        # The same package twice on the path: Python imports the first.
        if methods and methods[0].package not in seen:
            seen.add(methods[0].package)
            for method in methods:
                found.setdefault(method.name, []).append(method)
    return found


def _methods_of(distribution: metadata.Distribution) -> Iterator[Published]:
    try:
        targets = {entry.name: entry.value for entry in distribution.entry_points if entry.group == GROUP}
        package, version = (distribution.name, distribution.version) if targets else ("", "")
    except Exception as error:  # the metadata of any installed package, however broken, must not disturb what works
        log.info("skipped a package in %s whose metadata cannot be read: %s", distribution.locate_file(""), describe(error))
        return
    for name, target in targets.items():
        yield Published(name, target, package, version)
