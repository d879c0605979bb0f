"""Rendering ahead of training: in this process where images are in memory, else in worker processes."""

from __future__ import annotations

import atexit
import functools
import multiprocessing
import os
import signal
import weakref
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.synchronize import Event
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from holdfast.data.render import Renderer
from holdfast.data.request import Request
from holdfast.errors import DataError

__all__ = ["InProcess", "Workers"]


class InProcess:
    """Renders in this process, one batch ahead in a thread where the device works on its own meanwhile."""

    def __init__(self, renderer: Renderer) -> None:
        self._renderer = renderer

    def fetch(self, requests: Sequence[Request], *, pin: bool = False, ahead: bool = False) -> Iterator[Tensor]:
        """Pixels (B, 3, S, S) of each request, in order.

        Args:
            requests: What to render.
            pin: Whether into page-locked memory, from which a GPU copies while it works.
            ahead: Whether the next batch is rendered while the caller uses this one.
        """
        buffers = (torch.empty((len(request.rows), *self._renderer.shape), dtype=torch.uint8, pin_memory=pin) for request in requests)
        if not ahead:
            yield from map(self._renderer.render, requests, buffers)
            return
        with ThreadPoolExecutor(1) as thread:
            waiting = None
            # The buffer is made here, not in the thread, whose current GPU may be another.
            for request, buffer in zip(requests, buffers, strict=True):
                coming = thread.submit(self._renderer.render, request, buffer)
                if waiting is not None:
                    yield waiting.result()
                waiting = coming
            if waiting is not None:
                yield waiting.result()


class Workers:
    """Renders in worker processes of a DataLoader, which live as long as this object."""

    def __init__(self, renderer: Renderer, workers: int) -> None:
        self._renderer = renderer
        self._workers = workers
        self._closing = multiprocessing.Event()
        weakref.finalize(self, self._closing.set)
        atexit.register(self._closing.set)  # before multiprocessing ends its children, which finalizers may come after
        self._requests = _Requests()
        self._loader = self._new_loader(self._requests, persistent=True)
        self._busy = False

    def fetch(self, requests: Sequence[Request], *, pin: bool = False, ahead: bool = False) -> Iterator[Tensor]:
        """As :meth:`InProcess.fetch`; workers are ahead by nature.

        Raises:
            DataError: A worker met an image that it cannot read.
        """
        if not requests:
            return
        if self._busy:  # a second stream at the same time gets workers of its own
            yield from self._receive(self._new_loader(_Requests(requests), persistent=False), pin)
            return
        self._busy = True
        try:
            self._requests.entries = list(requests)
            yield from self._receive(self._loader, pin)
        finally:
            self._busy = False

    def _receive(self, loader: DataLoader[Any], pin: bool) -> Iterator[Tensor]:
        for rendered in loader:
            if isinstance(rendered, str):
                raise DataError(rendered)
            yield rendered.pin_memory() if pin else rendered

    def _new_loader(self, requests: _Requests, *, persistent: bool) -> DataLoader[Any]:
        return DataLoader(
            _Rendered(self._renderer),
            batch_size=None,
            sampler=requests,
            num_workers=self._workers,
            persistent_workers=persistent,
            worker_init_fn=functools.partial(_outlive_signals, self._closing),
            # Its own generator: the loader draws a seed for each pass, and the global random state belongs to training.
            generator=torch.Generator(),
        )


class _Requests(Sampler[Request]):
    """The requests of one pass; the loader reads them anew when it is iterated again."""

    def __init__(self, entries: Sequence[Request] = ()) -> None:
        self.entries = list(entries)

    def __iter__(self) -> Iterator[Request]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)


class _Rendered(Dataset[Any]):
    """A dataset whose index is a request and whose item is a whole batch."""

    def __init__(self, renderer: Renderer) -> None:
        self._renderer = renderer

    def __getitem__(self, request: Request) -> Tensor | str:
        try:
            return self._renderer.render(request)
        except DataError as error:
            return str(error)  # raised in a worker, it would arrive wrapped into a traceback


def _outlive_signals(closing: Event, worker: int) -> None:
    """Ctrl-C and SIGTERM reach all processes of a job; the main one decides, and needs its workers up to the checkpoint."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # A worker that is no longer wanted is ended by SIGTERM too.
    signal.signal(signal.SIGTERM, lambda number, frame: os._exit(0) if closing.is_set() else None)
