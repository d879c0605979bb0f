from __future__ import annotations

import torch
from tests.golden.arrays import Arrays, agree
from torch import nn

from holdfast.transforms.stochnorm import stochastic_normalization


def methods_stochnorm(a: Arrays) -> None:
    for form, kind in (("2d", nn.BatchNorm1d), ("4d", nn.BatchNorm2d)):
        inputs, weight, bias = (a[f"{name}_{form}"].clone().requires_grad_() for name in ("inputs", "weight", "bias"))
        mean, var = a[f"running_mean0_{form}"].clone(), a[f"running_var0_{form}"].clone()
        outputs = stochastic_normalization(
            inputs, weight, bias, mean, var, a[f"select_{form}"].to(inputs), momentum=float(a["momentum"]), eps=float(a["eps"])
        )
        outputs.backward(a[f"upstream_{form}"])
        agree(outputs.detach(), a[f"outputs_{form}"])
        for name, tensor in (("inputs", inputs), ("weight", weight), ("bias", bias)):
            agree(tensor.grad, a[f"grad_{name}_{form}"])
        agree(mean, a[f"running_mean1_{form}"])
        agree(var, a[f"running_var1_{form}"])
        layer = kind(len(mean), eps=float(a["eps"]), dtype=torch.float64).eval()
        layer.load_state_dict({"weight": weight, "bias": bias, "running_mean": mean, "running_var": var}, strict=False)
        agree(layer(a[f"inputs_{form}"]).detach(), a[f"outputs_eval_after_{form}"])
