from __future__ import annotations

import numpy as np
import torch

from holdfast.data.normalize import Normalizer, effective_spec


def test_normalisation_is_the_float32_formula_by_channel(spec):
    pixels = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).expand(2, 3, 16, 16)
    images = Normalizer(spec)(pixels)
    assert images.dtype == torch.float32
    for channel in range(3):
        mean, std = np.float32(spec.mean[channel]), np.float32(spec.std[channel])
        expected = (np.arange(256, dtype=np.float32) / np.float32(255) - mean) / std
        assert np.array_equal(images[1, channel].numpy().ravel(), expected)


def test_half_replaces_the_networks_statistics(spec):
    half = effective_spec(spec, "half")
    assert (half.size, half.mean, half.std) == (16, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    assert effective_spec(spec, "model") is spec


def test_half_maps_black_and_white_to_minus_one_and_one(load, folder, spec):
    data = load(folder({"a": 8, "b": 8}), normalization="half")
    images = torch.cat([batch.inputs for batch in data.batches("train")])
    assert images.min() >= -1
    assert images.max() <= 1
    assert images.min() < -0.9
    assert images.max() > 0.9
