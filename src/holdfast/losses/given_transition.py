"""The transition matrix that a correction was given."""

from __future__ import annotations

from holdfast.errors import ConfigError
from holdfast.labels.transition import Matrix, check_correctable, read_transition

__all__ = ["read_correctable"]


def read_correctable(spec: str, num_classes: int, *, force: bool) -> Matrix:
    """F (K, K) as the option ``transition`` names it.

    Raises:
        ConfigError: The option is missing, or names no matrix.
        DataError: The matrix cannot be used for a correction.
    """
    if spec == "none":
        raise ConfigError(
            "the transition matrix of the labels is missing; give --method.transition FILE.csv, .npy, .npz or .json, or a form such as "
            "symmetric:0.4 or pair:0.3"
        )
    matrix = read_transition(spec, num_classes)
    check_correctable(matrix, f"transition {spec!r}", force=force)
    return matrix
