"""The one training loop."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property

import torch
from torch import Tensor, nn

from holdfast.attach import warn_about_batch_terms
from holdfast.errors import Interrupted
from holdfast.objective import Objective
from holdfast.step import Clock, StepContext
from holdfast.training.batches import companion_rows, epoch_batches
from holdfast.training.callbacks import measure, rewind
from holdfast.training.candidates import Candidates
from holdfast.training.checkpoint import drop_weights, load_checkpoint, save_checkpoint, save_weights
from holdfast.training.evaluate import Predictions, predict_batches
from holdfast.training.events import CheckpointSaved, EpochDone, Evaluating, Measured, Resumed, StepDone, StoppedEarly
from holdfast.training.interrupt import StopRequest, stop_on_signals
from holdfast.training.job import Job
from holdfast.training.meter import Meter
from holdfast.training.optim import learning_rate_factor, make_optimizer, set_learning_rate
from holdfast.training.setup import set_up_terms, source_of
from holdfast.training.snapshot import check_same_run, restore_modules, restore_progress, take_snapshot
from holdfast.training.validate import validate
from holdfast.training.watch import FiniteWatch
from holdfast.types import Batch, Update

__all__ = ["Trainer"]


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
        self.skipped = 0  # updates that the loss scaling of fp16 threw away
        self.seconds = {"train": 0.0, "total": 0.0}
        self.epoch_seconds = 0.0
        self.restored_metrics: dict[str, float] = {}  # of the terms, as they were when the checkpoint was written
        self._factor = learning_rate_factor(config, self.total_steps, self.steps_per_epoch)
        self._saved_at = self._started_at = time.monotonic()

    # ------------------------------------------------------------------------------------------------------------- start

    def train(self) -> None:
        """Set up or resume, then train to the last epoch, or to where ``--patience`` ends.

        Raises:
            Interrupted: A signal asked to stop; a checkpoint has been written.
            NonFiniteError: A term or weight became NaN or infinite.
        """
        with stop_on_signals() as stop:
            self._start()
            while self.clock.epoch < self.job.config.epochs and not self.stopped_early:
                self._train_epoch(stop)
                self._end_epoch()
                self._stop_if(self._count_ranks(bool(stop))[0], stop)
        self._count_seconds()
        if self.stopped_early:
            config = self.job.config
            self.job.listener(StoppedEarly(self.clock.epoch, config.epochs, config.select, self.candidates.best.epoch))

    @property
    def stopped_early(self) -> bool:
        """Whether ``--patience`` has run out before the last epoch."""
        return self.clock.epoch < self.job.config.epochs and self.candidates.out_of_patience(self.clock.epoch)

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
            set_up_terms(job, source_of(job, self.total_steps))
        else:
            check_same_run(job, state)
            restore_modules(self, state)
        self.prepare()
        if state is None:
            rewind(job.callbacks, -1)
            measured = measure(job.callbacks, 0, 0)
            self._checkpoint()
            self._announce(measured)
            return
        rewind(job.callbacks, state["clock"]["step"] - state["clock"]["step_in_epoch"])
        if job.engine.is_main:
            # A checkpoint after an epoch's last step may still be older than the epoch's row.
            job.run.truncate_history(state["clock"]["step"] - state["clock"]["step_in_epoch"])
        job.listener(Resumed(str(job.run.path), state["clock"]["epoch"], state["clock"]["step"]))
        restore_progress(self, state)

    def prepare(self) -> None:
        """Move everything to its device and make what an update needs, once the terms have their tensors."""
        job = self.job
        self.module: nn.Module = job.engine.wrap(self.objective)
        self.optimizer = job.engine.wrap_optimizer(make_optimizer(job.config, job.classifier, self.objective.terms))
        self._trained = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
        self.candidates = Candidates(job.classifier.net, job.config)
        self._reference = job.reference if any(weighted.term.NEEDS.reference for weighted in job.terms) else None
        # A reference that no term looks at any more should not take up the device's memory.
        job.engine.place_reference(job.reference, used=self._reference is not None)
        warn_about_batch_terms(job.terms, job.config.accumulate)
        job.classifier.train()

    # ------------------------------------------------------------------------------------------------------------- epoch

    def _train_epoch(self, stop: StopRequest) -> None:
        job, clock = self.job, self.clock
        batches = epoch_batches(job, clock.epoch, start_step=clock.step_in_epoch, companions=self._companions)
        while self.clock.step_in_epoch < self.steps_per_epoch:
            began = time.perf_counter()
            self.update(batches)
            means, stopping = self._look_after(stop) if self._is_time(stop) else ({}, 0)
            spent = time.perf_counter() - began
            self.seconds["train"] += spent
            self.epoch_seconds += spent
            self._announce_step(means)
            self._stop_if(stopping, stop)

    @cached_property
    def _companions(self) -> dict[str, Iterator[Batch]]:
        """Rows of other data that terms want beside each batch, from where the run stands."""
        return companion_rows(self.job, self.clock.step)

    def _announce_step(self, means: Mapping[str, float]) -> None:
        clock, lr = self.clock, self.job.config.lr * self._factor(self.clock.step - 1, self.clock.epoch)
        epoch, loss = clock.epoch + 1, means.get("loss")
        self.job.listener(StepDone(epoch, clock.step_in_epoch, self.steps_per_epoch, loss, step=clock.step, lr=lr, means=means))

    def _announce(self, measured: Sequence[Measured]) -> None:
        for event in measured:
            self.job.listener(event)

    def update(self, batches: Iterator[Batch]) -> None:
        """One optimizer step."""
        job, clock = self.job, self.clock
        accumulate = job.config.accumulate
        set_learning_rate(self.optimizer, self._factor(clock.step, clock.epoch))
        for micro in range(accumulate):
            batch = next(batches)
            if micro == 0:
                self.optimizer.zero_grad(set_to_none=True)  # after the batch is there: freed earlier, its memory would be paged in anew
            context = StepContext(
                job.classifier,
                self._reference,
                job.engine.comm,
                job.config.seed,
                clock,
                micro,
                accumulate,
                reference_layers=job.reference_layers,
            )
            with job.engine.accumulating(self.module, last=micro == accumulate - 1):
                output = self.module(batch, context)
                job.engine.backward(output.total, last=micro == accumulate - 1)
            self.watch.record(output.values, clock.step)
            self.meter.add(output, batch, accumulate)
        norm = None if job.config.clip_norm is None else job.engine.clip_gradients(self._trained, job.config.clip_norm)
        self.optimizer.step()
        if job.engine.update_was_skipped(self.optimizer):
            self._discard_update()
        else:
            self._follow_update(norm)
        # A skipped update advances the clock, and so the learning rate, too: its batch is used up.
        self.clock = Clock(clock.step + 1, clock.epoch, clock.step_in_epoch + 1, clock.total_steps)

    def _follow_update(self, gradient_norm: Tensor | None) -> None:
        """What comes after an applied update."""
        job, clock = self.job, self.clock
        if gradient_norm is not None:
            self.watch.record_gradient_norm(gradient_norm, clock.step)
            self.meter.add_gradient_norm(gradient_norm)
        self.objective.after_step(
            Update(job.classifier.net, job.engine.comm, clock.step, clock.epoch, clock.step_in_epoch, clock.total_steps)
        )
        if self.candidates.average is not None:
            self.candidates.average.update()  # of the weights that the terms have projected

    def _discard_update(self) -> None:
        """Forget an update that the loss scaling of fp16 threw away."""
        self.skipped += 1
        self.objective.discard_step()
        self.watch.check_scale(self.job.engine.loss_scale, self.clock.step)

    def _is_time(self, stop: StopRequest) -> bool:
        """Whether to look after the run now. Ranks must agree without talking, so with several only the step count decides."""
        alone = self.job.engine.comm.size == 1
        return self.clock.step % FiniteWatch.EVERY == 0 or (alone and (bool(stop) or self._checkpoint_is_due()))

    def _checkpoint_is_due(self) -> bool:
        return time.monotonic() - self._saved_at > 60 * self.job.config.checkpoint_minutes

    def _look_after(self, stop: StopRequest) -> tuple[dict[str, float], int]:
        """What is done now and then: read finiteness and means, write a checkpoint where it is due; how many ranks are to stop."""
        comm = self.job.engine.comm
        self.watch.check(comm)
        stopping, due = self._count_ranks(bool(stop), self._checkpoint_is_due())
        if stopping or due:
            self._checkpoint()
        return self.meter.read(comm), stopping

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
        better = validate(self, row)
        measured = measure(job.callbacks, epoch, clock.step)
        row["seconds"] = round(self.epoch_seconds, 3)
        self.watch.check(job.engine.comm)
        if better:
            self._check_weights()
        for form in better:
            weights = job.engine.whole(self.candidates.weights(form))
            if job.engine.is_main:
                save_weights(job.run, epoch, form, weights)
        self.clock = Clock(clock.step, epoch, 0, clock.total_steps)
        self.meter.reset()
        self.epoch_seconds = 0.0
        if job.engine.is_main:
            job.run.append_history(row)
        self._checkpoint()
        if job.engine.is_main:
            drop_weights(job.run, self.candidates.wanted)
        job.listener(EpochDone(epoch, job.config.epochs, row))
        self._announce(measured)

    def _row(self) -> dict[str, float | int | None]:
        """This epoch's line of ``history.csv``, without validation."""
        step = self.clock.step
        row: dict[str, float | int | None] = {"epoch": self.clock.epoch + 1, "step": step}
        row["lr"] = self.job.config.lr * self._factor(step - 1, self.clock.epoch)
        row |= self.meter.read(self.job.engine.comm)
        row |= self.term_metrics()
        return row

    def term_metrics(self) -> dict[str, float]:
        """Numbers of the terms; resumed after an epoch's last step, they are those of the checkpoint."""
        return self.restored_metrics | {name: float(value) for name, value in self.objective.metrics().items()}

    # -------------------------------------------------------------------------------------------------------- checkpoint

    def _checkpoint(self) -> None:
        """Save the whole state, after making sure that it is worth saving."""
        job, engine = self.job, self.job.engine
        self.watch.check(engine.comm)
        self._share_buffers()
        self._count_seconds()
        self._check_weights()  # on every rank, so that none waits for one that has stopped
        state = take_snapshot(self)
        if engine.is_main:
            save_checkpoint(job.run, state)
        engine.wait()
        self._saved_at = time.monotonic()
        job.listener(CheckpointSaved(str(job.run.checkpoint_dir), self.clock.step))

    def _check_weights(self) -> None:
        tensors = ((name, value) for name, value in self.objective.state_dict().items() if isinstance(value, Tensor))
        self.watch.check_tensors(tensors, self.clock.step, self.job.engine.comm)

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
