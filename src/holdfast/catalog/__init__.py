"""What there is, without importing it: one hand-written record for each method, model family and dataset family.

Help, ``list``, ``explain``, option checking and the documentation read only this room, which never imports torch; classes are
imported once the options are known. A test holds each record against the signature of its class.
"""

from holdfast.catalog.families import DATASETS, MODELS, reads_texts
from holdfast.catalog.records import Family, Method, Option
from holdfast.catalog.registry import METHODS, known_methods, method_record, parse_methods, register

__all__ = [
    "DATASETS",
    "METHODS",
    "MODELS",
    "Family",
    "Method",
    "Option",
    "known_methods",
    "method_record",
    "parse_methods",
    "reads_texts",
    "register",
]
