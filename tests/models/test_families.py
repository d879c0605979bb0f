"""What a user does with a network: on one of full size for each family, and through a run on the small ones."""

from __future__ import annotations

import copy
import gc
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from tests.models.families import FAMILIES, FULL_SIZE
from tests.training.small_runs import CLASSES, write_images
from torch import Tensor

from holdfast import fit
from holdfast.build import load_model
from holdfast.data import load_inputs
from holdfast.models.classifier import Classifier, freeze_batchnorm
from holdfast.models.load import load_pretrained
from holdfast.models.reference import FrozenReference


@pytest.fixture
def _memory_is_given_back() -> Iterator[None]:
    """Some of these networks have half a gigabyte of weights."""
    yield
    gc.collect()


def loss_of(classifier: Classifier, images: Tensor) -> Tensor:
    logits, features = classifier(images)
    return logits.logsumexp(1).mean() + features["pooled"].square().mean()


@pytest.mark.slow
@pytest.mark.usefixtures("_memory_is_given_back", "fresh_compiler")
@pytest.mark.parametrize("spec", FULL_SIZE)
def test_a_network_of_full_size_trains_compiles_and_agrees_with_its_reference(spec: str) -> None:
    loaded = load_pretrained(spec, weights="random", image_size=FULL_SIZE[spec])
    classifier = Classifier(loaded.net, loaded.head_name)
    reference = FrozenReference.from_pretrained(loaded)
    classifier.verify(loaded.input)
    images = torch.randn(2, 3, loaded.input.size, loaded.input.size, generator=torch.Generator().manual_seed(0))
    # Not always bit for bit: without gradient torch's own attention takes another way.
    torch.testing.assert_close(reference.features(images)["pooled"], classifier.eval()(images).features["pooled"], rtol=1e-4, atol=1e-5)

    classifier.reset_head(5, seed=0)
    freeze_batchnorm(classifier)
    # Stochastic depth draws anew in each pass, so eager and compiled are compared in eval mode.
    compiled = copy.deepcopy(classifier)
    compiled.compile(backend="aot_eager", fullgraph=True)
    for model in (classifier, compiled):
        loss_of(model.eval(), images).backward()
    for (name, parameter), other in zip(classifier.named_parameters(), compiled.named_parameters(), strict=True):
        assert parameter.grad is not None, name
        torch.testing.assert_close(other[1].grad, parameter.grad, rtol=1e-3, atol=1e-5, msg=lambda text, name=name: f"{name}: {text}")
    classifier.zero_grad()
    loss_of(classifier.train(), images).backward()
    assert not [name for name, parameter in classifier.named_parameters() if parameter.grad is None]


THROUGH_A_RUN = ("torchvision-squeezenet", "timm-convolutional-head", "timm-tower")
"""Networks whose form differs from that of their weights file; the others are marked slow."""


@pytest.mark.parametrize("family", [pytest.param(name, marks=() if name in THROUGH_A_RUN else pytest.mark.slow) for name in FAMILIES])
def test_a_run_gives_back_the_network_that_made_its_predictions(tmp_path: Path, family: str) -> None:
    spec, size = FAMILIES[family]
    folder = write_images(tmp_path / "images")
    run = fit(folder, model=spec, weights="random", image_size=size, epochs=1, batch_size=9, device="cpu", out=tmp_path / "run")
    recorded = run.load_predictions()["test"]
    classifier, classes, expected = load_model(run.path)
    assert (len(classes), expected.size) == (len(CLASSES), size)
    ((_, images),) = load_inputs([folder / name for name in recorded.ids], expected)
    torch.testing.assert_close(classifier(images).logits.detach(), torch.from_numpy(recorded.logits), rtol=1e-4, atol=1e-5)
