"""Gradient clipping: the norm that is clipped, recorded and watched."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from tests.training.small_runs import OPTIONS, assert_same_tensors
from torch import Tensor, nn

from holdfast.catalog import register
from holdfast.config.schema import FitConfig
from holdfast.data import load_data
from holdfast.distributed import SingleProcess
from holdfast.errors import NonFiniteError
from holdfast.models.classifier import Classifier
from holdfast.models.load import load_pretrained
from holdfast.run import Run
from holdfast.terms import Regularizer
from holdfast.training.checkpoint import load_checkpoint
from holdfast.training.watch import FiniteWatch
from holdfast.types import Source, Step

Fit = Callable[..., Run]

GLYPHNET = {**OPTIONS, "model": "demo:glyphnet", "image_size": None, "schedule": "constant", "lr": 0.05, "select": "last"}


def clipped_loop(images: Path, clip_norm: float) -> tuple[dict[str, Tensor], list[float]]:
    """A bare loop with torch's own clipping: its weights and the norms before clipping."""
    pretrained = load_pretrained("demo:glyphnet")
    net, data = pretrained.net, load_data(FitConfig(data=str(images), batch_size=6), pretrained.input)
    Classifier(net, pretrained.head_name).reset_head(len(data.classes), seed=0)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9, nesterov=True)
    norms = []
    for epoch in range(2):
        net.train()
        for batch in data.train_batches(epoch=epoch, seed=0, batch_size=6):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(net(batch.inputs), batch.labels).backward()
            norms.append(float(nn.utils.clip_grad_norm_(net.parameters(), clip_norm)))
            optimizer.step()
    return net.state_dict(), norms


def test_clipping_is_that_of_a_bare_loop(fit: Fit, images: Path) -> None:
    run = fit(**GLYPHNET, clip_norm=0.5)
    weights, norms = clipped_loop(images, 0.5)
    assert min(norms) > 0.5  # so that something is clipped
    torch.testing.assert_close(run.load_weights(), weights, rtol=1e-5, atol=1e-6)
    assert [row["gradient_norm"] for row in run.history] == pytest.approx([sum(norms[:3]) / 3, sum(norms[3:]) / 3], rel=1e-5)


def test_a_bound_that_is_never_reached_changes_nothing(fit: Fit) -> None:
    clipped, free = fit("clipped", **GLYPHNET, clip_norm=1e6), fit("free", **GLYPHNET)
    assert_same_tensors(clipped.load_weights(), free.load_weights())
    assert "gradient_norm" not in free.history[0]


@pytest.fixture
def puller(own_catalog: None) -> Iterator[str]:
    """A method with a parameter of its own, whose gradient is as large as asked."""

    @register("puller", summary="has a parameter with a known gradient")
    class Puller(Regularizer):
        STATE = ("own",)
        own: Tensor

        def __init__(self, *, slope: float = 0.0, root: bool = False) -> None:
            super().__init__()
            self.slope = slope
            self.root = root

        def setup(self, source: Source) -> None:
            self.own = nn.Parameter(torch.zeros(()))

        def penalty(self, step: Step) -> Tensor:
            value = self.slope * self.own
            if self.root:  # 0, with a gradient that is NaN
                value = value + (step.logits - step.logits.detach()).square().sum().sqrt()
            return value

    return "puller"


def test_the_parameters_of_terms_count_too(fit: Fit, puller: str) -> None:
    run = fit(method={"name": puller, "slope": 300.0}, clip_norm=1.0, schedule="constant", momentum=0.0, lr=0.1)
    assert run.history[0]["gradient_norm"] == pytest.approx(300, rel=1e-3)
    state = load_checkpoint(run)
    assert state is not None
    (own,) = (tensor for name, tensor in state["terms"].items() if name.endswith("own"))
    assert float(own) == pytest.approx(-6 * 0.1, rel=1e-3)  # six steps along a gradient that was scaled to length 1


def test_a_norm_that_is_not_finite_stops_the_run_by_name(fit: Fit, puller: str) -> None:
    with pytest.raises(NonFiniteError, match=r"^the gradient norm was not finite at step 0; the last checkpoint is from before"):
        fit(method={"name": puller, "root": True}, clip_norm=1.0)


def test_a_term_is_named_before_the_norm_that_suffers_from_it() -> None:
    watch, good, bad = FiniteWatch(), torch.tensor(1.0), torch.tensor(float("nan"))
    for step, (term, norm) in enumerate([(good, good), (bad, bad)]):
        watch.record({"cross-entropy": good, "puller": term}, step)
        watch.record_gradient_norm(norm, step)
    with pytest.raises(NonFiniteError, match=r"^the term 'puller' was not finite at step 1;"):
        watch.check(SingleProcess())
