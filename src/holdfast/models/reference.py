"""The frozen pretrained network that methods hold on to."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from holdfast.errors import ModelError
from holdfast.models.classifier import Classifier
from holdfast.models.fingerprint import fingerprint_tensors
from holdfast.types import Outputs

if TYPE_CHECKING:
    from holdfast.models.load import Pretrained

__all__ = ["FrozenReference"]


class FrozenReference(nn.Module):
    """A network at its pretrained weights: eval mode whatever is asked for, no gradient; implements ``holdfast.types.Reference``.

    Args:
        net: The bare network with the head it came with. It is taken over and frozen: pass a copy of a network that is trained.
        head_name: Qualified name of its final Linear; found where not given.
        source_head: Whether that head is pretrained. A fresh one belongs neither to ``weights`` nor to ``fingerprint``.
    """

    def __init__(self, net: nn.Module, head_name: str | None = None, *, source_head: bool = True) -> None:
        super().__init__()
        self._classifier = Classifier(net, head_name)
        self.has_source_head = source_head
        self.requires_grad_(False)
        self.eval()

    @classmethod
    def from_pretrained(cls, pretrained: Pretrained) -> FrozenReference:
        """A reference from a copy of what :func:`holdfast.models.load.load_pretrained` returned."""
        return cls(copy.deepcopy(pretrained.net), pretrained.head_name, source_head=pretrained.source_head)

    def train(self, mode: bool = True) -> FrozenReference:
        """Nothing: a reference stays in eval mode."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, inputs: Any) -> Outputs:
        """Source logits and captured features of a batch.

        Under ``no_grad`` and not inference mode, since both may enter a loss that is differentiated.
        """
        outputs: Outputs = self._classifier(inputs)
        return outputs

    @torch.no_grad()
    def features(self, inputs: Any, layers: Sequence[str] = ("pooled",)) -> Mapping[str, Tensor]:
        """Features of a batch by layer name, ``"pooled"`` (B, D) among them; the forward pass ends at the last of ``layers``."""
        return self._classifier.features(inputs, layers)

    def capture(self, layers: Iterable[str]) -> None:
        """Make further layers known to :meth:`features`, by their names in the bare network."""
        self._classifier.capture(layers)

    def spread(self, over_ranks: Callable[[Classifier], object]) -> None:
        """Spread the network over ranks by a function that does so in place; ``weights`` are in parts then."""
        over_ranks(self._classifier)

    def source_head(self) -> nn.Linear:
        """The head that came with the pretrained weights, from D features to K_s classes.

        Raises:
            ModelError: They came without one.
        """
        if not self.has_source_head:
            raise ModelError(
                f"the pretrained weights bring no head ({self._classifier.head_name!r}), so there are no source logits; "
                "use weights with a classifier, or a method that needs none"
            )
        return self._classifier.head

    def logits(self, inputs: Any) -> Tensor:
        """Source logits (B, K_s).

        Raises:
            ModelError: The pretrained weights came without a head.
        """
        self.source_head()
        return self(inputs).logits

    def trainable_copy(self) -> Classifier:
        """The pretrained network once more, as one that can be trained."""
        return copy.deepcopy(self._classifier).requires_grad_(True)

    @property
    def weights(self) -> Mapping[str, Tensor]:
        """Parameters and saved buffers by their names in the bare network; no copies."""
        return self._classifier.net.state_dict() if self.has_source_head else self.backbone

    @property
    def backbone(self) -> Mapping[str, Tensor]:
        """``weights`` without the head."""
        head = {name for name, _ in self._classifier.head_parameters()}
        return {name: tensor for name, tensor in self._classifier.net.state_dict().items() if name not in head}

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of ``weights``; see :func:`fingerprint_tensors`."""
        return fingerprint_tensors(self.weights)
