"""Layers that cannot be captured are found before training."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from holdfast.errors import ModelError
from holdfast.models.classifier import Classifier
from holdfast.types import InputSpec


class InPlace(nn.Module):
    """Changes what two of its layers return, by a module and by a function."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3)
        self.relu = nn.ReLU(inplace=True)
        self.second = nn.Conv2d(4, 4, 3)
        self.third = nn.Conv2d(4, 4, 3)
        self.fc = nn.Linear(4, 2)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.second(self.relu(self.first(images)))
        maps = self.third(F.relu(maps, inplace=True))
        return self.fc(maps.mean((2, 3)))


SPEC = InputSpec(16, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


@pytest.mark.parametrize("layer", ["first", "second"])
def test_an_output_that_is_changed_in_place_later_is_refused(layer: str) -> None:
    classifier = Classifier(InPlace())
    classifier.capture([layer])
    for inputs in (SPEC, torch.zeros(2, 3, 12, 12)):
        with pytest.raises(ModelError, match=f"changes the output of the layer '{layer}' in place after it has returned; name the layer"):
            classifier.verify_layers(inputs)
    assert len(classifier.net.get_submodule(layer)._forward_hooks) == 1  # its own


def test_what_stays_as_it_is_may_be_captured() -> None:
    classifier = Classifier(InPlace())
    classifier.verify_layers(SPEC)
    classifier.capture(["relu", "third"])
    classifier.verify_layers(SPEC)
    assert classifier.net.training


def test_a_layer_that_returns_no_tensor_is_refused() -> None:
    class Pair(nn.Module):
        def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
            return images, images

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.pair = Pair()
            self.fc = nn.Linear(3, 2)

        def forward(self, images: Tensor) -> Tensor:
            return self.fc(self.pair(images)[0].mean((2, 3)))

    classifier = Classifier(Net())
    classifier.capture(["pair"])
    with pytest.raises(ModelError, match="the layer 'pair' returns a tuple, not a tensor"):
        classifier.verify_layers(SPEC)


def test_layers_and_the_head_are_asked_for_apart() -> None:
    classifier = Classifier(InPlace().eval())
    classifier.capture(["first", "third"])
    images = torch.zeros(2, 3, 12, 12)
    assert classifier.features(images, ["first"]).keys() == {"first"}
    assert classifier.features(images, ["third", "pooled"]).keys() == {"first", "third", "pooled"}
