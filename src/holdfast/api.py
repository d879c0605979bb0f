"""The verbs as functions: ``holdfast.fit`` and ``holdfast.load``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from holdfast.config.layers import keywords
from holdfast.config.load import machine_options, resolve
from holdfast.config.yaml_file import yaml_layer
from holdfast.training.events import Listener, ignore

if TYPE_CHECKING:
    from holdfast.run import Run

__all__ = ["fit", "load"]

Methods = str | Mapping[str, Any] | Sequence["str | Mapping[str, Any]"]


def fit(
    data: str | Path | None = None,
    *,
    model: str | None = None,
    method: Methods | None = None,
    out: str | Path | None = None,
    config: str | Path | None = None,
    resume: str | Path | None = None,
    listener: Listener = ignore,
    **options: Any,
) -> Run:
    """Fine-tune a pretrained network and write a run directory; the same as ``holdfast fit``.

    Args:
        data: Folder of images, or ``demo:NAME``.
        model: Spec of the network, such as ``timm:resnet50``.
        method: A name, names joined by ``+``, or a list of names and ``{"name": …, option: …}``; plain fine-tuning by default.
        out: The run directory to write.
        config: YAML file with options; keywords win over it.
        resume: Run directory to go on with, instead of all else; only options of the machine can be given beside it.
        listener: Called with the events of training (``holdfast.training.events``).
        options: Any option of ``holdfast fit --help``, with underscores: ``epochs=10``, ``val_fraction=0.2``.

    Returns:
        The finished run: ``run.test.accuracy``, ``run.test.accuracy_ci95``, ``run.result``.

    Raises:
        ConfigError: An option is unknown or does not fit.
        DataError: The dataset cannot be used as it is.
        ModelError: The network cannot be built.
        RunError: The run directory cannot be written.
    """
    named = {"data": data, "model": model, "method": method, "out": out}
    layer = keywords({**{key: value for key, value in named.items() if value is not None}, **options})
    if resume is not None:
        overrides = machine_options(layer)
        from holdfast.build import resume as resume_run

        return resume_run(str(resume), overrides=overrides, listener=listener)
    resolved = resolve([yaml_layer(str(config)), layer] if config is not None else [layer])
    from holdfast.build import fit_config

    return fit_config(resolved, listener=listener)


def load(path: str | Path) -> Run:
    """Open a run directory.

    Args:
        path: What ``--out`` was.

    Raises:
        RunError: This is no run directory.
    """
    from holdfast.run import Run

    return Run.open(path)
