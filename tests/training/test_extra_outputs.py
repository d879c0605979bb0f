"""A task loss with an output beyond the classes: trained and resumed with the run, and gone for whoever reads it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from tests.training.small_runs import OPTIONS

import holdfast
from holdfast.build import load_model
from holdfast.models.classifier import Classifier
from holdfast.predict import predict
from holdfast.testing import SmallNet
from holdfast.types import HeadForm


def test_the_finished_network_has_the_classes_alone(images: Path, tmp_path: Path) -> None:
    run = holdfast.fit(images, **OPTIONS, method={"name": "dac", "warmup_epochs": 1}, out=tmp_path / "run")
    assert run.load_weights()["9.weight"].shape == (4, 8)
    classifier, classes, _ = load_model(run.path)
    assert len(classes) == classifier.head.out_features == 3
    assert run.load_predictions()["test"].logits.shape[1] == 3
    (row, *_) = predict(run, sorted((images / "test").glob("*/*.png"))[:1])
    assert row.label in classes


def test_dropping_outputs_keeps_the_others_as_they_are() -> None:
    classifier = Classifier(SmallNet(3))
    classifier.reset_head(4, seed=0, form=HeadForm(extra=2))
    before = classifier.head.weight.detach().clone()
    assert classifier.head.out_features == 6
    classifier.keep_outputs(4)
    assert np.array_equal(classifier.head.weight.detach(), before[:4])
    assert classifier.head.bias.shape == (4,)
    assert classifier.head.out_features == 4
