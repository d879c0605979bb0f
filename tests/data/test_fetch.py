from __future__ import annotations

import os
import pickle
import re
import signal
import subprocess
import sys
import textwrap
from multiprocessing import active_children

import pytest
import torch

from holdfast.data.fetch import InProcess, Workers
from holdfast.data.request import Request
from holdfast.errors import DataError

# Python 3.12 and later warn of any fork in a process with threads.
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")


@pytest.fixture
def root(folder):
    return folder({"train/a": 11, "train/b": 12, "test/a": 3, "test/b": 4})


@pytest.fixture
def served(load, root):
    """The same data from memory and through two workers."""
    return load(root, cache="memory"), load(root, cache="off", workers=2)


def train(data, **options):
    return data.train_batches(**{"epoch": 0, "seed": 0, "batch_size": 5, **options})


def equal(ones, others):
    return all(
        torch.equal(one.inputs, other.inputs) and torch.equal(one.index, other.index) for one, other in zip(ones, others, strict=True)
    )


@pytest.mark.parametrize("augment", ["crop", "resized-crop"])
def test_workers_serve_the_pixels_of_the_cache(load, root, augment):
    cached, worked = load(root, cache="memory", augment=augment), load(root, cache="off", workers=2, augment=augment)
    assert isinstance(cached._reader.fetcher, InProcess)
    assert isinstance(worked._reader.fetcher, Workers)
    for epoch in range(2):
        assert equal(train(cached, epoch=epoch, accumulate=5), train(worked, epoch=epoch, accumulate=5))
    for split in ("train", "val", "test"):
        assert equal(cached.batches(split, batch_size=3), worked.batches(split, batch_size=3))


def test_workers_stay_from_pass_to_pass(served):
    _, worked = served
    before = {process.pid for process in active_children()}
    list(train(worked))
    first = {process.pid for process in active_children()} - before
    list(worked.batches("test"))
    list(train(worked, epoch=1))
    assert len(first) == 2
    assert {process.pid for process in active_children()} - before == first


def test_passes_at_the_same_time_do_not_mix(served):
    cached, worked = served
    halves = [list(train(cached, rank=rank, size=5)) for rank in (0, 1)]
    for expected, pair in zip(
        zip(*halves, strict=True), zip(train(worked, rank=0, size=5), train(worked, rank=1, size=5), strict=True), strict=True
    ):
        assert equal(expected, pair)


def test_a_pass_left_early_does_not_leak_into_the_next(served):
    cached, worked = served
    pass_ = train(worked)
    next(pass_)
    del pass_
    assert equal(train(cached, epoch=3), train(worked, epoch=3))


def test_workers_leave_the_global_random_state_alone(served):
    state = torch.get_rng_state()
    list(train(served[1]))
    assert torch.equal(torch.get_rng_state(), state)


def test_an_image_that_a_worker_cannot_read_is_named_in_one_sentence(served, root):
    (root / "train/a/002.png").write_bytes(b"spoiled")
    sentence = f"{root}: the image train/a/002.png cannot be read (not an image of a known format, or damaged)."
    with pytest.raises(DataError, match=f"^{re.escape(sentence)}$"):
        list(served[1].batches("train"))


def test_workers_outlive_the_signals_that_stop_a_job(served):
    cached, worked = served
    pass_ = train(worked)
    batches = [next(pass_)]
    for process in active_children():
        os.kill(process.pid, signal.SIGTERM)
        os.kill(process.pid, signal.SIGINT)
    assert equal(train(cached), [*batches, *pass_])


@pytest.mark.slow
def test_the_interpreter_ends_with_passes_still_open(root):
    code = f"""
        from holdfast.config.schema import FitConfig
        from holdfast.data import load_data
        from holdfast.types import InputSpec

        data = load_data(FitConfig(data={str(root)!r}, cache="off", workers=1), InputSpec(16, (0.5,) * 3, (0.5,) * 3))
        first, second = (data.train_batches(epoch=0, seed=0, batch_size=4) for _ in range(2))
        next(first), next(second)
    """
    process = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], timeout=60, capture_output=True, text=True)
    assert (process.returncode, process.stderr) == (0, "")


def test_what_workers_need_can_be_sent_to_a_fresh_interpreter(served):
    renderer = served[1]._reader.fetcher._renderer
    request = Request(served[1]._rows["train"][:3], seed=1, epoch=2)
    assert torch.equal(pickle.loads(pickle.dumps(renderer)).render(request), renderer.render(request))


def test_rendering_ahead_gives_the_same_batches_in_order(served):
    cached, _ = served
    requests = [Request(cached._rows["train"][start : start + 4], seed=1, epoch=0) for start in range(0, 16, 4)]
    plain, ahead = (list(cached._reader.fetcher.fetch(requests, ahead=ahead)) for ahead in (False, True))
    assert len(ahead) == 4
    assert all(torch.equal(one, other) for one, other in zip(plain, ahead, strict=True))


def test_rendering_ahead_passes_errors_on(load, root):
    data = load(root, cache="off", workers=0)
    (root / "test/a/001.png").unlink()
    with pytest.raises(DataError, match=r"test/a/001\.png"):
        list(data._reader.fetcher.fetch([Request(data._rows["test"])], ahead=True))
