"""The verbs as functions: ``holdfast.fit``, ``holdfast.plan``, ``holdfast.report`` and ``holdfast.load``."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from holdfast.config.layers import Layer, keywords
from holdfast.config.load import machine_options, resolve
from holdfast.config.slurm import adopt_slurm_ranks
from holdfast.config.yaml_file import yaml_layer
from holdfast.training.events import Listener, ignore

if TYPE_CHECKING:
    from holdfast.config.schema import FitConfig
    from holdfast.planning import Plan
    from holdfast.run import Run

__all__ = ["fit", "load", "plan", "report"]

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
        listener: Called with each event of training, such as ``EpochDone`` (``holdfast.training.events``), on rank 0. It may look and
            note, and raise to end the run; the network is out of its reach. ``events.together`` makes one of several.
        options: Any option of ``holdfast fit --help``, with underscores: ``epochs=10``, ``val_fraction=0.2``.

    Returns:
        The finished run: ``run.test.accuracy``, ``run.test.accuracy_ci95``, ``run.result``.

    Raises:
        ConfigError: An option is unknown or does not fit.
        DataError: The dataset cannot be used as it is.
        ModelError: The network cannot be built.
        RunError: The run directory cannot be written.
    """
    adopt_slurm_ranks(os.environ)
    layer = _layer({"data": data, "model": model, "method": method, "out": out}, options)
    if resume is not None:
        overrides = machine_options(layer)
        from holdfast.recipes import resume as resume_run

        return resume_run(str(resume), overrides=overrides, listener=listener)
    resolved = _resolved(config, layer)
    from holdfast.recipes import fit_config

    return fit_config(resolved, listener=listener)


def plan(
    data: str | Path | None = None,
    *,
    model: str | None = None,
    method: Methods | None = None,
    out: str | Path | None = None,
    config: str | Path | None = None,
    **options: Any,
) -> Plan:
    """What :func:`fit` with the same arguments would do and take; the same as ``holdfast fit --dry-run``.

    Data and network are loaded, and a few steps of the real objective are made and timed. Nothing is written, and random states are put
    back. Times and memory are estimates for this machine as it is now.

    Args:
        data: Folder of images, or ``demo:NAME``.
        model: Spec of the network.
        method: As for :func:`fit`.
        out: The run directory that would be written.
        config: YAML file with options; keywords win over it.
        options: Any option of ``holdfast fit --help``, with underscores.

    Returns:
        The plan: ``plan.total_steps``, ``plan.time.total``, ``plan.memory.peak``, ``plan.disk.finished``.

    Raises:
        HoldfastError: :func:`fit` would raise it too.
    """
    adopt_slurm_ranks(os.environ)
    resolved = _resolved(config, _layer({"data": data, "model": model, "method": method, "out": out}, options))
    from holdfast.recipes import plan_config

    return plan_config(resolved)


def report(paths: str | Path | Run | Sequence[str | Path | Run], *, out: str | Path | None = None) -> Path:
    """Write one HTML page on finished runs, audits and comparisons; the same as ``holdfast report``.

    The page stands alone: no script, and nothing is loaded. The same files give the same bytes.

    Args:
        paths: A run or its directory, a directory that ``holdfast audit`` or ``holdfast compare`` wrote, or several of them.
        out: The file; ``report.html`` in the directory where there is only one, ``comparison.html`` in that of a comparison.

    Returns:
        The file.

    Raises:
        ConfigError: No directory is given, or no file for several.
        RunError: A directory holds no finished run and no audit, a file of it is damaged, or the page cannot be written.
        CheckpointError: Stored predictions are damaged.
    """
    from holdfast.report import write_report
    from holdfast.run import Run

    entries = [paths] if isinstance(paths, str | Path | Run) else paths
    return write_report([entry.path if isinstance(entry, Run) else entry for entry in entries], out)


def _layer(named: Mapping[str, Any], options: Mapping[str, Any]) -> Layer:
    return keywords({**{key: value for key, value in named.items() if value is not None}, **options})


def _resolved(config: str | Path | None, layer: Layer) -> FitConfig:
    return resolve([yaml_layer(str(config)), layer] if config is not None else [layer])


def load(path: str | Path) -> Run:
    """Open a run directory.

    Args:
        path: What ``--out`` was.

    Raises:
        RunError: This is no run directory.
    """
    from holdfast.run import Run

    return Run.open(path)
