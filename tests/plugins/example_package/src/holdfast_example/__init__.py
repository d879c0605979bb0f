"""Methods for holdfast: ``logit-norm`` and ``brier``."""
