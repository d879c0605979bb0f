"""Pull features towards the mean their class had before fine-tuning."""

import torch
from torch import Tensor

from holdfast import Needs, Regularizer, Scope, register
from holdfast.regularizers.functional import class_means, class_sums
from holdfast.types import Source, Step, Update


@register("class-mean", summary="drift of features from their pretrained class mean")
class ClassMean(Regularizer):
    NEEDS = Needs(layers=("pooled",))
    SCOPE = Scope.EXAMPLE
    STATE = ("mean",)  # (K, D)

    def __init__(self, *, decay: float = 0.9) -> None:
        super().__init__()
        self.decay = decay
        self._sums: list[Tensor] = []

    def setup(self, source: Source) -> None:
        sums = sum(class_sums(source.reference.features(b.inputs)["pooled"], b.labels, source.num_classes) for b in source.batches())
        self.mean = class_means(source.comm.sum(sums))  # names the class if one is empty

    def penalty(self, step: Step) -> Tensor:
        pooled = step.features["pooled"]  # (B, D)
        if step.collect:
            self._sums.append(class_sums(pooled.detach(), step.labels, len(self.mean)))
        return (pooled - self.mean[step.labels]).square().sum(dim=1).mean()

    def after_step(self, update: Update) -> None:
        latest = class_means(update.comm.sum(sum(self._sums)), absent=self.mean)
        self.mean = torch.lerp(latest, self.mean, self.decay)
        self._sums.clear()

    def discard_step(self) -> None:
        self._sums.clear()
