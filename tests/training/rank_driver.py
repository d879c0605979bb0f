"""Runs in each of two processes that torchrun starts: trains what ``rank_runs`` lists, by DDP and by FSDP."""

from __future__ import annotations

import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from tests.training.rank_runs import CASES, LIKE_DDP, ROBUST, SAME, STOPPED

import holdfast
from holdfast import build
from holdfast.distributed import ProcessGroup, in_step
from holdfast.errors import ConfigError, Interrupted, NonFiniteError
from holdfast.models.shards import own_part
from holdfast.training import sharding
from holdfast.training.loop import Trainer
from holdfast.training.watch import FiniteWatch

FSDP: dict[str, Any] = {"strategy": "fsdp"}


class Crash(Exception):
    """Stands for the end of the process."""


class Driver:
    """What one rank does and sees."""

    def __init__(self, images: Path, runs: Path) -> None:
        self.images = images
        self.runs = runs
        self.rank = int(os.environ["RANK"])
        self.terms: dict[str, Any] = {}
        self.errors: dict[str, str] = {}
        self.sizes: dict[str, dict[str, int]] = {}
        self._finish, self._update = build.finish, Trainer.update
        build.finish = self._look_and_finish

    def _look_and_finish(self, trainer: Trainer, **options: Any) -> dict[str, Any]:
        """Remember the terms' state and what this rank holds of the network, before a run ends."""
        name = str(trainer.job.run.path.relative_to(self.runs))
        self.terms[name] = {key: value.clone() for key, value in _tensors(trainer.objective.terms.state_dict()).items()}
        parameters, state = list(trainer.job.classifier.net.parameters()), trainer.optimizer.state.values()
        self.sizes[name] = {
            "parameters": sum(parameter.numel() for parameter in parameters),
            "own parameters": sum(own_part(parameter).numel() for parameter in parameters),
            "own optimizer": sum(own_part(value).numel() for entry in state for value in entry.values() if isinstance(value, torch.Tensor)),
            "own reference": sum(own_part(parameter).numel() for parameter in trainer.job.reference.parameters()),
        }
        return self._finish(trainer, **options)

    def fit(self, name: str, **options: Any) -> None:
        holdfast.fit(self.images, **{**SAME, **options}, out=self.runs / name)

    def like_ddp(self) -> None:
        """All cases by both strategies; FSDP may refuse one, and may not warn."""
        for name, options in {**CASES, **LIKE_DDP}.items():
            self.fit(name, **options)
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("error")
                    self.fit(f"fsdp/{name}", **options, **FSDP)
            except ConfigError as error:
                self.errors[f"fsdp/{name}"] = str(error)

    def stopped_by_a_signal(self) -> None:
        for name, every, options in (
            ("stopped inside", 1, {}),
            ("stopped at the end of the epoch", 50, {}),
            ("fsdp/stopped inside", 1, FSDP),
        ):
            with self._after_update(lambda trainer: self.rank == 1 and _stop(), every=every):
                try:
                    self.fit(name, method="adarand", **options)
                except Interrupted as error:
                    self.errors[name] = str(error)
            holdfast.fit(resume=self.runs / name)

    def killed(self) -> None:
        """After the fourth and last step, which no checkpoint has seen; resumed by the same strategy, and by the other."""
        for name, first, then in (
            ("undisturbed", FSDP, None),
            ("killed", FSDP, {}),
            ("goes on with ddp", FSDP, {"strategy": "ddp"}),
            ("goes on with fsdp", {}, FSDP),
        ):
            with self._after_update(lambda trainer, then=then: then is not None and trainer.clock.step == 4 and _crash(), every=1):
                try:
                    self.fit(f"fsdp/{name}", **{**STOPPED, **first})
                except Crash:
                    Trainer.update = self._update
                    holdfast.fit(resume=self.runs / "fsdp" / name, **(then or {}))

    def overflow(self) -> None:
        for name, options in (("overflow", {}), ("fsdp/overflow", FSDP)):
            try:
                self.fit(name, **{**SAME, "lr": 3e38}, **options)
            except NonFiniteError as error:
                self.errors[name] = str(error)

    def on_their_own(self) -> None:
        try:
            self.fit(f"own-{self.rank}")
        except ConfigError as error:
            self.errors["own"] = str(error)

    def robust(self) -> None:
        holdfast.fit(**ROBUST, out=self.runs / "robust")
        holdfast.fit(**ROBUST, **FSDP, out=self.runs / "fsdp/robust")

    def plan(self) -> dict[str, Any]:
        plans = {name: holdfast.plan(self.images, **SAME, **options, out="nowhere") for name, options in (("ddp", {}), ("fsdp", FSDP))}
        return {name: dict(plan.memory.stored) for name, plan in plans.items()}

    @contextmanager
    def _after_update(self, action: Callable[[Trainer], object], *, every: int) -> Iterator[None]:
        """Something happens after each update; the run looks after itself after ``every`` so many."""

        def update(trainer: Trainer, batches: Any) -> None:
            self._update(trainer, batches)
            action(trainer)

        FiniteWatch.EVERY, Trainer.update = every, update
        try:
            yield
        finally:
            FiniteWatch.EVERY, Trainer.update = 50, self._update


def _stop() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def _crash() -> None:
    raise Crash


def _tensors(state: dict[str, Any]) -> dict[str, torch.Tensor]:
    return {name: value for name, value in state.items() if isinstance(value, torch.Tensor)}


def communicate(rank: int) -> dict[str, Any]:
    """What ranks say to each other, in small."""
    comm = ProcessGroup()
    rows = torch.arange(6.0).reshape(3, 2)[: 2 - rank].add(10 * rank).requires_grad_()  # two rows, then one
    gathered = comm.gather(rows)
    (gathered * torch.arange(6.0).reshape(3, 2).add(100 * rank)).sum().backward()  # each rank's loss reads all rows in its own way
    return {
        "gathered": gathered.detach(),
        "grad": rows.grad,
        "rows of one rank": comm.gather(torch.ones(rank, 3)),
        "flags": comm.broadcast(torch.tensor([rank == 0, rank == 1])),
        "number": comm.broadcast(torch.tensor(7 + rank)),
        "sum": comm.sum(torch.tensor([1.0, rank], requires_grad=True)),
        "fewer": list(in_step(["a", "b"][: 2 - rank], comm, torch.device("cpu"))),
        "none": list(in_step(["c", "d"] if rank else [], comm, torch.device("cpu"))),
    }


def main() -> None:
    images, runs = map(Path, sys.argv[1:])
    sharding.SMALLEST = 0  # the networks here are smaller than what would be worth it
    driver = Driver(images, runs)
    driver.like_ddp()
    driver.stopped_by_a_signal()
    driver.killed()
    driver.overflow()
    driver.on_their_own()
    driver.robust()
    seen = {"terms": driver.terms, "errors": driver.errors, "sizes": driver.sizes, "plan": driver.plan(), "comm": communicate(driver.rank)}
    torch.save(seen, runs / f"rank-{driver.rank}.pt")


if __name__ == "__main__":
    main()
