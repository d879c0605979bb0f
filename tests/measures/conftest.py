"""Small trainings, as the tests of training have them."""

from __future__ import annotations

from tests.training.conftest import _settings_of_torch, fit, images

__all__ = ["_settings_of_torch", "fit", "images"]
