"""Features of a frozen network for images and texts, and word weights for texts where no network is named."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from holdfast.data.decode import decode_image
from holdfast.data.normalize import Normalizer
from holdfast.data.views import eval_view
from holdfast.errors import ConfigError, DataError
from holdfast.labels.arrays import FloatArray
from holdfast.labels.examples import Examples
from holdfast.models.load import Pretrained, load_pretrained
from holdfast.models.reference import FrozenReference
from holdfast.types import InputSpec

__all__ = ["example_features", "network_features", "word_weights"]

BATCH = 64
MOST_WORDS = 20_000

Progress = Callable[[int, int], None]


def example_features(
    examples: Examples,
    rows: Sequence[int],
    *,
    model: str | None,
    weights: str | None = None,
    image_size: int | None = None,
    device: str = "cpu",
    progress: Progress = lambda done, total: None,
) -> Any:
    """Features (n, D) of some rows: pooled ones of a network, or word weights of texts where none is named.

    Args:
        examples: The dataset.
        rows: Which rows.
        model: A network as ``--model`` names it.
        weights: A file with its weights.
        image_size: Side of the images in pixels.
        device: Where it runs.
        progress: Called with how many rows are done, and of how many.

    Raises:
        ConfigError: The rows are images and no network is named.
    """
    if model is not None:
        pretrained = load_pretrained(model, weights=weights, image_size=image_size)
        return network_features(examples, rows, pretrained, device=device, progress=progress)
    if examples.texts is None:
        raise ConfigError(
            "--model is missing: labels of images are judged by features of a pretrained network; for example --model timm:resnet18, or "
            "--probs with a file of probabilities."
        )
    return word_weights([examples.texts[row] for row in rows])


def network_features(
    examples: Examples, rows: Sequence[int], pretrained: Pretrained, *, device: str = "cpu", progress: Progress = lambda done, total: None
) -> FloatArray:
    """Pooled features (n, D) of a network at its pretrained weights, in eval mode and without gradient; arguments as above."""
    reference = FrozenReference.from_pretrained(pretrained).to(device)
    inputs = _image_inputs(examples, pretrained.input, device) if examples.texts is None else _text_inputs(examples, pretrained, device)
    found = []
    for start in range(0, len(rows), BATCH):
        part = rows[start : start + BATCH]
        found.append(reference.features(inputs(part))["pooled"].float().cpu().numpy())
        progress(start + len(part), len(rows))
    return np.concatenate(found).astype(np.float64)


def _image_inputs(examples: Examples, spec: Any, device: str) -> Callable[[Sequence[int]], Any]:
    if not isinstance(spec, InputSpec):
        raise ConfigError(f"--model: the network reads texts, but {examples.spec} holds images; name a network of images.")
    normalize = Normalizer(spec)

    def image(row: int) -> torch.Tensor:
        try:
            return eval_view(decode_image(examples.image(row)), spec.size)
        except DataError as error:
            raise DataError(f"{examples.spec}: the image {examples.ids[row]!r} cannot be read ({error}).") from None

    return lambda rows: normalize(torch.stack([image(row) for row in rows]).to(device))


def _text_inputs(examples: Examples, pretrained: Pretrained, device: str) -> Callable[[Sequence[int]], Any]:
    spec: Any = pretrained.input
    texts = examples.texts
    if texts is None or isinstance(spec, InputSpec):
        raise ConfigError(f"--model: the network reads images, but {examples.spec} holds texts; leave --model out for word weights.")

    def tokens(rows: Sequence[int]) -> dict[str, torch.Tensor]:
        encoded = spec.tokenizer.encode([texts[row] for row in rows], spec.max_length)
        return {name: tensor.to(device) for name, tensor in spec.tokenizer.batch(encoded).items()}

    return tokens


def word_weights(texts: Sequence[str]) -> Any:
    """Weights (n, D), sparse, of words and pairs of words, by how often a text has them and how few other texts do (TF-IDF)."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    try:
        return TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, max_features=MOST_WORDS, token_pattern=r"(?u)\S+").fit_transform(
            texts
        )
    except ValueError:
        raise DataError("the texts hold no word, so there is nothing to compare them by.") from None
