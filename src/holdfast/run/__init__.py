"""The run directory: the only reader and writer of its files. No torch at import."""

from __future__ import annotations

from holdfast.run.directory import Predictions, Run
from holdfast.run.files import atomic_write, sha256_json
from holdfast.run.result import SplitMetrics, validate_result

__all__ = ["Predictions", "Run", "SplitMetrics", "atomic_write", "sha256_json", "validate_result"]
