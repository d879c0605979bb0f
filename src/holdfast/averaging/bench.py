"""Where averaged weights are tried: one network, the data of the runs, and how often either was used."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import torch
from torch import Tensor

from holdfast.averaging.batchnorm import reestimate
from holdfast.data import RunData
from holdfast.errors import ConfigError
from holdfast.models.classifier import Classifier
from holdfast.models.head import head_in
from holdfast.recorded import config_of, data_of, network_of, start_of
from holdfast.run import Run
from holdfast.training.engine import Engine
from holdfast.training.evaluate import Predictions, predict_batches
from holdfast.training.probe import solve_head
from holdfast.types import InputSpec, TextSpec

__all__ = ["Bench"]

MOST_IMAGES = 2048
"""Training examples at most that BatchNorm statistics are re-estimated on."""


class Bench:
    """Evaluates weights on the data of a run, and knows the pretrained network with the head of a linear probe.

    Args:
        run: One of the runs; all share network, start and data.
        device: As for ``holdfast fit``.
        data: Where the data are now, if they were moved.

    Raises:
        HoldfastError: Network or data cannot be had again.
    """

    def __init__(self, run: Run, *, device: str = "auto", data: str | None = None) -> None:
        self.config = config_of(run)
        self.engine = Engine(device, self.config.precision)
        if self.engine.comm.size > 1:
            raise ConfigError("averages are made by one process; start it without torchrun")
        self.run = run
        self.classifier, pretrained = network_of(run)
        self.spec: InputSpec | TextSpec = pretrained.input
        self.data: RunData = data_of(run, self.spec, data=data, threads=self.config.threads)
        self.classifier.to(self.engine.device)
        self.evaluations = 0
        self._probed: dict[str, Tensor] | None = None

    @property
    def head_names(self) -> set[str]:
        """Names of the tensors of the head."""
        return {name for name, _ in self.classifier.head_parameters()}

    @property
    def buffer_names(self) -> set[str]:
        """Names of the tensors that are no parameters."""
        return {name for name, _ in self.classifier.net.named_buffers()}

    def settled(self, weights: Mapping[str, Tensor], layers: Collection[str]) -> dict[str, Tensor]:
        """The weights with BatchNorm statistics of their own, on training examples that are not augmented; see :func:`reestimate`."""
        if not layers:
            return dict(weights)
        self._load(weights)
        batches = self.data.sample("train", MOST_IMAGES, seed=self.config.data_seed, device=self.engine.device)
        with torch.no_grad(), self.engine.autocast():
            reestimate(self.classifier.net, layers, batches, self.classifier)
        return {name: tensor.detach().to("cpu", copy=True) for name, tensor in self.classifier.net.state_dict().items()}

    def predict(self, weights: Mapping[str, Tensor], split: str) -> Predictions:
        """Predictions of these weights on a split."""
        self._load(weights)
        self.evaluations += 1
        batches = self.data.batches(split, device=self.engine.device)
        return predict_batches(self.classifier, batches, self.engine, len(self.data.classes))

    def probed_start(self) -> dict[str, Tensor]:
        """The pretrained network with a head for the classes of the data: that of the linear probe.

        A fresh head is random, so that weights near it mean nothing; the probe is the head that belongs to the pretrained features.
        """
        if self._probed is None:
            start = start_of(self.run).to(self.engine.device)
            found = self._probe(start)
            self._probed = {name: tensor.detach().to("cpu", copy=True) for name, tensor in start.net.state_dict().items()} | found
        return self._probed

    def _probe(self, start: Classifier) -> dict[str, Tensor]:
        def features(split: str) -> Tensor:
            batches = self.data.batches(split, device=self.engine.device)
            with torch.no_grad(), self.engine.autocast():
                return torch.cat([start.features(batch.inputs)["pooled"].float().cpu() for batch in batches])

        rows = {split: features(split).double().numpy() for split in ("train", "val")}
        bias = start.head.bias is not None
        linear, _ = solve_head(self.data, rows, bias=bias, seed=self.config.data_seed)
        own = head_in(start.net.state_dict(), start.head_name)
        solved = {"weight": linear.weight, "bias": linear.bias}
        return {f"{start.head_name}.{name}": torch.from_numpy(solved[name]).to(tensor.dtype) for name, tensor in own.items()}

    def _load(self, weights: Mapping[str, Tensor]) -> None:
        self.classifier.net.load_state_dict(dict(weights))
