"""The one training loop."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from holdfast.attach import Clock, SourceView, StepContext, warn_about_batch_terms
from holdfast.config.schema import FitConfig
from holdfast.data import ImageData
from holdfast.distributed import gather_objects
from holdfast.errors import CheckpointError, Interrupted
from holdfast.models.classifier import Classifier
from holdfast.models.reference import FrozenReference
from holdfast.objective import Objective, WeightedTerm
from holdfast.run import Run
from holdfast.terms import Term
from holdfast.training.checkpoint import drop_weights, load_checkpoint, random_state, restore_random_state, save_checkpoint, save_weights
from holdfast.training.engine import Engine
from holdfast.training.evaluate import Predictions, predict_batches
from holdfast.training.events import CheckpointSaved, EpochDone, Evaluating, Listener, Resumed, SetupStarted, StepDone
from holdfast.training.interrupt import StopRequest, stop_on_signals
from holdfast.training.meter import Meter
from holdfast.training.optim import learning_rate_factor, make_optimizer, set_learning_rate
from holdfast.training.selection import Selection
from holdfast.training.watch import FiniteWatch
from holdfast.types import Batch, Update

__all__ = ["Job", "Trainer"]


@dataclass(frozen=True)
class Job:
    """Everything a training needs, built.

    ``fingerprints`` (config, data, reference) are stored in each checkpoint and compared when one is loaded.
    """

    run: Run
    config: FitConfig
    data: ImageData
    classifier: Classifier
    reference: FrozenReference
    terms: Sequence[WeightedTerm]
    engine: Engine
    listener: Listener
    fingerprints: dict[str, str]


class Trainer:
    """Trains a job from wherever its run directory stands."""

    def __init__(self, job: Job) -> None:
        self.job = job
        config, data = job.config, job.data
        self.batch_size = data.effective_batch_size(config.batch_size)
        self.steps_per_epoch = data.steps_per_epoch(config.batch_size)
        self.total_steps = self.steps_per_epoch * config.epochs
        self.clock = Clock(total_steps=self.total_steps)
        self.objective = Objective(job.classifier, job.terms)
        self.meter = Meter()
        self.watch = FiniteWatch()
        self.selection = Selection()
        self.seconds = {"train": 0.0, "total": 0.0}
        self._factor = learning_rate_factor(config, self.total_steps)
        self._saved_at = self._started_at = time.monotonic()
        self._epoch_seconds = 0.0
        self._metrics: dict[str, float] = {}  # of the terms, as they were when the checkpoint was written

    # ------------------------------------------------------------------------------------------------------------- start

    def train(self) -> None:
        """Set up or resume, then train to the last epoch.

        Raises:
            Interrupted: A signal asked to stop; a checkpoint has been written.
            NonFiniteError: A term or weight became NaN or infinite.
        """
        with stop_on_signals() as stop:
            self._start()
            while self.clock.epoch < self.job.config.epochs:
                self._train_epoch(stop)
                self._end_epoch()
                self._stop_if(self._count_ranks(bool(stop))[0], stop)
        self._count_seconds()

    def predict(self, split: str) -> Predictions:
        """Evaluate the network as it is now on a split, over all ranks."""
        job = self.job
        job.listener(Evaluating(split))
        batches = job.data.batches(split, rank=job.engine.comm.rank, size=job.engine.comm.size, device=job.engine.device)
        return predict_batches(job.classifier, batches, job.engine, len(job.data.classes))

    def _start(self) -> None:
        job = self.job
        # Dropout and the like draw from the global generators; ranks must not draw the same.
        torch.manual_seed(job.config.seed * 1_000_003 + job.engine.comm.rank)
        state = load_checkpoint(job.run)
        if state is None:
            self._set_up_terms()
        else:
            self._restore_modules(state)
        self.module: nn.Module = job.engine.wrap(self.objective)
        self.optimizer = job.engine.wrap_optimizer(make_optimizer(job.config, job.classifier, self.objective.terms))
        self._reference = job.reference if any(weighted.term.NEEDS.reference for weighted in job.terms) else None
        # A reference that no term looks at any more should not take up the device's memory.
        job.reference.to(job.engine.device if self._reference is not None else "cpu")
        warn_about_batch_terms(job.terms, job.config.accumulate)
        job.classifier.train()
        if state is None:
            self._checkpoint()
        else:
            self._restore_rest(state)

    def _set_up_terms(self) -> None:
        job = self.job
        data, comm, device = job.data, job.engine.comm, job.engine.device
        job.reference.to(device)

        def open_split(split: str) -> Iterator[Batch]:
            return data.batches(split, rank=comm.rank, size=comm.size, device=device)

        source = SourceView(job.reference, len(data.classes), self.total_steps, comm, open_split)
        for weighted in job.terms:
            if type(weighted.term).setup is not Term.setup:
                job.listener(SetupStarted(weighted.name))
            weighted.term.setup(source)
            for name in weighted.term.STATE:
                tensor = getattr(weighted.term, name)
                if tensor is not None:
                    tensor.data.copy_(comm.broadcast(tensor))

    def _restore_modules(self, state: dict[str, Any]) -> None:
        config = self.job.config
        words = {"data": f"data in {config.data!r}", "reference": f"weights of {config.model!r}", "config": "options in config.yaml"}
        for what, fingerprint in self.job.fingerprints.items():
            if state["fingerprints"].get(what) != fingerprint:
                raise CheckpointError(
                    f"--resume {self.job.run.path}: the {words[what]} changed since the checkpoint "
                    f"({state['fingerprints'].get(what, '')[:12]} then, {fingerprint[:12]} now); bring back what it was, or start a new run"
                )
        if state["ranks"] != self.job.engine.comm.size:
            raise CheckpointError(
                f"--resume {self.job.run.path}: the checkpoint is from {state['ranks']} rank(s), "
                f"this is {self.job.engine.comm.size}; start as many as before"
            )
        self.job.classifier.net.load_state_dict(state["model"])
        self.objective.terms.load_state_dict(state["terms"])

    def _restore_rest(self, state: dict[str, Any]) -> None:
        job = self.job
        mine = state["by_rank"][job.engine.comm.rank]
        self.optimizer.load_state_dict(state["optimizer"])
        job.engine.load_scaler_state(state["scaler"])
        self.objective.multipliers = dict(state["multipliers"])
        self.selection.load_state_dict(state["selection"])
        self.meter.load_state_dict(mine["meter"], job.engine.device)
        self.seconds = dict(state["seconds"])
        self._epoch_seconds = state["epoch_seconds"]
        self._metrics = dict(state["metrics"])
        self.clock = Clock(**state["clock"], total_steps=self.total_steps)
        if job.engine.is_main:
            # A checkpoint after an epoch's last step may still be older than the epoch's row.
            job.run.truncate_history(self.clock.step - self.clock.step_in_epoch)
        job.listener(Resumed(str(job.run.path), self.clock.epoch, self.clock.step))
        restore_random_state(mine["random"])

    # ------------------------------------------------------------------------------------------------------------- epoch

    def _train_epoch(self, stop: StopRequest) -> None:
        job, config = self.job, self.job.config
        comm = job.engine.comm
        batches = job.data.train_batches(
            epoch=self.clock.epoch,
            seed=config.seed,
            batch_size=config.batch_size,
            accumulate=config.accumulate,
            rank=comm.rank,
            size=comm.size,
            start_step=self.clock.step_in_epoch,
            device=job.engine.device,
        )
        while self.clock.step_in_epoch < self.steps_per_epoch:
            began = time.perf_counter()
            self._update(batches)
            loss = self._look_after(stop) if self._is_time(stop) else None
            spent = time.perf_counter() - began
            self.seconds["train"] += spent
            self._epoch_seconds += spent
            job.listener(StepDone(self.clock.epoch + 1, self.clock.step_in_epoch, self.steps_per_epoch, loss))

    def _update(self, batches: Iterator[Batch]) -> None:
        """One optimizer step."""
        job, clock = self.job, self.clock
        accumulate = job.config.accumulate
        set_learning_rate(self.optimizer, self._factor(clock.step, clock.epoch))
        for micro in range(accumulate):
            batch = next(batches)
            if micro == 0:
                self.optimizer.zero_grad(set_to_none=True)  # after the batch is there: freed earlier, its memory would be paged in anew
            context = StepContext(job.classifier, self._reference, job.engine.comm, job.config.seed, clock, micro, accumulate)
            with job.engine.accumulating(self.module, last=micro == accumulate - 1):
                output = self.module(batch, context)
                job.engine.backward(output.total)
            self.watch.record(output.values, clock.step)
            self.meter.add(output, batch, accumulate)
        self.optimizer.step()
        if job.engine.update_was_skipped(self.optimizer):
            self.objective.discard_step()
        else:
            self.objective.after_step(
                Update(job.classifier.net, job.engine.comm, clock.step, clock.epoch, clock.step_in_epoch, clock.total_steps)
            )
        self.clock = Clock(clock.step + 1, clock.epoch, clock.step_in_epoch + 1, clock.total_steps)

    def _is_time(self, stop: StopRequest) -> bool:
        """Whether to look after the run now. Ranks must agree without talking, so with several only the step count decides."""
        alone = self.job.engine.comm.size == 1
        return self.clock.step % FiniteWatch.EVERY == 0 or (alone and (bool(stop) or self._checkpoint_is_due()))

    def _checkpoint_is_due(self) -> bool:
        return time.monotonic() - self._saved_at > 60 * self.job.config.checkpoint_minutes

    def _look_after(self, stop: StopRequest) -> float | None:
        """What is done now and then: read the finiteness, write a timed checkpoint, stop when asked to."""
        comm = self.job.engine.comm
        self.watch.check(comm)
        stopping, due = self._count_ranks(bool(stop), self._checkpoint_is_due())
        if stopping or due:
            self._checkpoint()
        self._stop_if(stopping, stop)
        return self.meter.read(comm).get("loss")

    def _count_ranks(self, *wishes: bool) -> list[int]:
        """How many ranks want each of these: ranks act together, and one that was asked to stop takes the others along."""
        engine = self.job.engine
        counts: list[int] = engine.comm.sum(torch.tensor(wishes, dtype=torch.int64, device=engine.device)).tolist()
        return counts

    def _stop_if(self, ranks: int, stop: StopRequest) -> None:
        """End the run right after a checkpoint, where any rank was asked to."""
        if ranks:
            self._count_seconds()
            raise Interrupted(
                f"stopped by {stop.signal or 'another rank'} after step {self.clock.step}; nothing is lost: {self.job.run.resume_command}"
            )

    def _end_epoch(self) -> None:
        job, clock = self.job, self.clock
        self._share_buffers()
        row = self._row()
        epoch = clock.epoch + 1
        kept = False
        if job.data.has("val"):
            val = self.predict("val")
            row |= {"val_accuracy": val.accuracy, "val_loss": val.loss}
            kept = self.selection.offer(epoch, clock.step, accuracy=val.accuracy, loss=val.loss)
        row["seconds"] = round(self._epoch_seconds, 3)
        self.watch.check(job.engine.comm)
        if kept:
            self._check_weights()
        if kept and job.engine.is_main:
            save_weights(job.run, epoch, job.classifier.net.state_dict())
        self.clock = Clock(clock.step, epoch, 0, clock.total_steps)
        self.meter.reset()
        self._epoch_seconds = 0.0
        if job.engine.is_main:
            job.run.append_history(row)
        self._checkpoint()
        if job.engine.is_main:
            drop_weights(job.run, self.selection.epochs)
        job.listener(EpochDone(epoch, job.config.epochs, row))

    def _row(self) -> dict[str, float | int | None]:
        """This epoch's line of ``history.csv``, without validation."""
        step = self.clock.step
        row: dict[str, float | int | None] = {"epoch": self.clock.epoch + 1, "step": step}
        row["lr"] = self.job.config.lr * self._factor(step - 1, self.clock.epoch)
        row |= self.meter.read(self.job.engine.comm)
        row |= self._term_metrics()
        return row

    def _term_metrics(self) -> dict[str, float]:
        """Numbers of the terms; resumed after an epoch's last step, they are those of the checkpoint."""
        return self._metrics | {name: float(value) for name, value in self.objective.metrics().items()}

    # -------------------------------------------------------------------------------------------------------- checkpoint

    def _checkpoint(self) -> None:
        """Save the whole state, after making sure that it is worth saving."""
        job, engine = self.job, self.job.engine
        self.watch.check(engine.comm)
        self._share_buffers()
        self._count_seconds()
        by_rank = gather_objects({"random": random_state(), "meter": self.meter.state_dict()}, engine.comm)
        self._check_weights()  # on every rank, so that none waits for one that has stopped
        if engine.is_main:
            clock = self.clock
            save_checkpoint(
                job.run,
                {
                    "fingerprints": job.fingerprints,
                    "ranks": engine.comm.size,
                    "threads": torch.get_num_threads(),
                    "clock": {"step": clock.step, "epoch": clock.epoch, "step_in_epoch": clock.step_in_epoch},
                    "model": job.classifier.net.state_dict(),
                    "terms": self.objective.terms.state_dict(),
                    "optimizer": self.optimizer.state_dict(),
                    "scaler": engine.scaler_state(),
                    "multipliers": self.objective.multipliers,
                    "metrics": self._term_metrics(),
                    "selection": self.selection.state_dict(),
                    "seconds": self.seconds,
                    "epoch_seconds": self._epoch_seconds,
                    "by_rank": by_rank,
                },
            )
        engine.wait()
        self._saved_at = time.monotonic()
        job.listener(CheckpointSaved(str(job.run.checkpoint_dir), self.clock.step))

    def _check_weights(self) -> None:
        tensors = ((name, value) for name, value in self.objective.state_dict().items() if isinstance(value, Tensor))
        self.watch.check_tensors(tensors, self.clock.step)

    def _share_buffers(self) -> None:
        """Rank 0's BatchNorm statistics on all ranks."""
        comm = self.job.engine.comm
        if comm.size > 1:
            for buffer in self.job.classifier.net.buffers():
                buffer.copy_(comm.broadcast(buffer))

    def _count_seconds(self) -> None:
        now = time.monotonic()
        self.seconds["total"] += now - self._started_at
        self._started_at = now
