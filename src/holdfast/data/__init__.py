"""Datasets, splits and batches of images and texts."""

from __future__ import annotations

from holdfast.data.decode import decode_image
from holdfast.data.inputs import list_inputs, load_inputs
from holdfast.data.load import load_data
from holdfast.data.normalize import effective_spec
from holdfast.data.run_data import RunData
from holdfast.data.text_inputs import NamedText, list_texts
from holdfast.data.texts import tokens_of
from holdfast.data.views import eval_view

__all__ = [
    "NamedText",
    "RunData",
    "decode_image",
    "effective_spec",
    "eval_view",
    "list_inputs",
    "list_texts",
    "load_data",
    "load_inputs",
    "tokens_of",
]
