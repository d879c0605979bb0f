"""The options of a run that this room reads; ``FitConfig`` has them all."""

from __future__ import annotations

from typing import Protocol

__all__ = ["DataOptions"]


class DataOptions(Protocol):
    """Read-only view of the configuration: which data, how they are split, and how images become batches."""

    @property
    def data(self) -> str:
        """Folder of images, table, ``torchvision:NAME``, ``hf:FOLDER``, ``wds:PATTERN`` or ``demo:NAME``."""

    @property
    def train_list(self) -> str | None:
        """File of the training images to use."""

    @property
    def train_labels(self) -> str | None:
        """Table of labels that take the place of those of training examples."""

    @property
    def shots(self) -> int | None:
        """Training examples to keep of each class."""

    @property
    def train_fraction(self) -> float | None:
        """Share of the training split to use."""

    @property
    def test_split(self) -> str | None:
        """Split to test on."""

    @property
    def val_fraction(self) -> float:
        """Share of train that is held out."""

    @property
    def split(self) -> str:
        """``stratified`` or ``paper``."""

    @property
    def folds(self) -> int | None:
        """How many folds are cut."""

    @property
    def fold(self) -> int | None:
        """Which of them is held out."""

    @property
    def group_by(self) -> str | None:
        """Column or regular expression that gives the group of an example."""

    @property
    def data_seed(self) -> int:
        """Seed of splits, fractions and shots."""

    @property
    def sampling(self) -> str:
        """``uniform`` or ``balanced``."""

    @property
    def class_weights(self) -> str:
        """``none`` or ``balanced``."""

    @property
    def val_labels(self) -> str:
        """``as-given``, ``clean`` or ``noisy``."""

    @property
    def skip_bad(self) -> bool:
        """Whether unreadable images are dropped."""

    @property
    def allow_empty_classes(self) -> bool:
        """Whether classes may lack training examples."""

    @property
    def augment(self) -> str:
        """``crop``, ``resized-crop`` or ``none``."""

    @property
    def flip(self) -> bool:
        """Whether augmentation mirrors images."""

    @property
    def normalization(self) -> str:
        """``model`` or ``half``."""

    @property
    def batch_size(self) -> int:
        """Examples per optimizer step."""

    @property
    def workers(self) -> int | None:
        """Processes that decode images which are not in memory."""

    @property
    def cache(self) -> str:
        """``auto``, ``memory`` or ``off``."""

    @property
    def threads(self) -> int | None:
        """Threads of CPU arithmetic."""
