from __future__ import annotations

import copy
import hashlib

import numpy as np
import pytest
import torch
from tests.models import small_networks

from holdfast.errors import ModelError
from holdfast.models.classifier import Classifier
from holdfast.models.fingerprint import fingerprint_tensors
from holdfast.models.load import Pretrained, load_pretrained
from holdfast.models.reference import FrozenReference
from holdfast.types import Reference


def by_hand(tensors: dict[str, np.ndarray]) -> str:
    text = b"".join(
        f"{name}\t{array.dtype.name}\t({','.join(map(str, array.shape))})\n".encode() + array.tobytes()
        for name, array in sorted(tensors.items())
    )
    return hashlib.sha256(text).hexdigest()


def test_fingerprint_is_the_hash_of_names_types_shapes_and_bytes_in_name_order() -> None:
    arrays = {"b": np.arange(6, dtype=np.float32).reshape(2, 3), "a": np.array(7, dtype=np.int64), "c": np.zeros((0, 2), dtype=np.float64)}
    tensors = {name: torch.from_numpy(np.array(array)) for name, array in arrays.items()}
    assert fingerprint_tensors(tensors) == by_hand(arrays)
    assert fingerprint_tensors(dict(reversed(tensors.items()))) == by_hand(arrays)


def test_fingerprint_ignores_memory_layout_and_sees_every_change() -> None:
    weight = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    known = fingerprint_tensors({"weight": weight})
    assert fingerprint_tensors({"weight": weight.to(memory_format=torch.channels_last)}) == known
    assert fingerprint_tensors({"weight": weight.T.contiguous().T if weight.ndim == 2 else weight.clone()}) == known
    changed = weight.clone()
    changed[1, 2, 3, 3] = torch.nextafter(changed[1, 2, 3, 3], torch.tensor(9.0))
    others = [{"weight": changed}, {"Weight": weight}, {"weight": weight.reshape(3, 2, 4, 4)}, {"weight": weight.view(torch.int32)}]
    assert known not in [fingerprint_tensors(other) for other in others]


def test_fingerprint_of_bfloat16_is_that_of_its_bytes() -> None:
    tensor = torch.tensor([1.0, -2.5], dtype=torch.bfloat16)
    expected = hashlib.sha256(b"x\tbfloat16\t(2)\n" + tensor.view(torch.int16).numpy().tobytes()).hexdigest()
    assert fingerprint_tensors({"x": tensor}) == expected


def reference_with_head() -> tuple[Pretrained, FrozenReference]:
    pretrained = load_pretrained(f"python:{small_networks.__file__}:linear_net", image_size=8)
    return pretrained, FrozenReference.from_pretrained(pretrained)


def test_a_reference_is_what_the_protocol_asks_for(pretrained: Pretrained) -> None:
    reference = FrozenReference.from_pretrained(pretrained)
    assert isinstance(reference, Reference)
    images = torch.randn(2, 3, pretrained.input.size, pretrained.input.size)
    pretrained.net.eval()
    assert torch.equal(reference(images).logits, pretrained.net(images))
    assert not reference.features(images)["pooled"].requires_grad


def test_a_reference_stays_in_eval_mode_without_gradient() -> None:
    _, reference = reference_with_head()
    parent = torch.nn.ModuleList([reference]).train()
    assert not any(module.training for module in reference.modules())
    assert parent.training
    assert not any(parameter.requires_grad for parameter in reference.parameters())


def test_reference_outputs_can_enter_a_loss() -> None:
    _, reference = reference_with_head()
    images = torch.randn(2, 3, 8, 8)
    student = torch.randn(2, 8, requires_grad=True)
    (student * reference.features(images)["pooled"]).sum().backward()  # raises for tensors of inference mode
    assert student.grad is not None


def test_training_the_network_does_not_move_the_reference() -> None:
    pretrained, reference = reference_with_head()
    images = torch.randn(2, 3, 8, 8)
    before = reference.logits(images)
    classifier = Classifier(pretrained.net, pretrained.head_name)
    classifier.reset_head(3, seed=0)
    with torch.no_grad():
        for parameter in classifier.parameters():
            parameter.add_(1)
    assert torch.equal(reference.logits(images), before)
    assert next(iter(dict(classifier.backbone_parameters()).values())).requires_grad


def test_weights_are_parameters_and_buffers_by_the_names_of_the_bare_network(pretrained: Pretrained) -> None:
    reference = FrozenReference(copy.deepcopy(pretrained.net), pretrained.head_name)
    state = pretrained.net.state_dict()
    assert list(reference.weights) == list(state)
    assert all(torch.equal(reference.weights[name], value) for name, value in state.items())
    assert reference.fingerprint == fingerprint_tensors(state)


def test_a_fresh_head_belongs_neither_to_weights_nor_to_the_fingerprint() -> None:
    fingerprints = set()
    for bias in (0.0, 1.0):
        torch.manual_seed(0)
        net = small_networks.linear_net()
        torch.nn.init.constant_(net[-1].bias, bias)
        reference = FrozenReference(net, source_head=False)
        assert list(reference.weights) == ["2.weight", "2.bias"]
        fingerprints.add(reference.fingerprint)
    assert len(fingerprints) == 1


def test_source_logits_of_a_reference_without_head_are_an_error() -> None:
    reference = FrozenReference(small_networks.linear_net(), source_head=False)
    with pytest.raises(ModelError, match="bring no head"):
        reference.logits(torch.randn(1, 3, 8, 8))


def test_a_reference_of_a_network_in_use_keeps_no_features() -> None:
    net = small_networks.linear_net()
    classifier = Classifier(net)
    reference = FrozenReference(copy.deepcopy(net))
    images = torch.randn(2, 3, 8, 8)
    for _ in range(2):
        assert reference.features(images)["pooled"].shape == (2, 8)
    assert classifier(images).features["pooled"].requires_grad
