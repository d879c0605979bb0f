"""Datasets, splits and batches of images."""

from __future__ import annotations

from holdfast.data.decode import decode_image
from holdfast.data.image_data import ImageData
from holdfast.data.inputs import list_inputs, load_inputs
from holdfast.data.load import load_data
from holdfast.data.normalize import effective_spec
from holdfast.data.views import eval_view

__all__ = ["ImageData", "decode_image", "effective_spec", "eval_view", "list_inputs", "load_data", "load_inputs"]
