from __future__ import annotations

import torch
from tests.golden.arrays import Arrays, Toy, agree
from torch import Tensor

from holdfast import attach
from holdfast.losses.dr_tune import DRTune
from holdfast.losses.functional import calibrate_queue
from holdfast.step import Clock


def agree_calibrated(ours: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(ours, expected, rtol=1e-7, atol=1e-12)


def methods_drtune(a: Arrays) -> None:
    size, classes, width = int(a["queue_size"]), int(a["num_classes"]), a["weight"].shape[1]
    net, frozen = (Toy(a[name], a["weight"], a["bias"]) for name in ("encoder", "frozen_encoder"))
    term = DRTune(queue_size=size, rotation_every=int(a["rotation_every"]))
    warmup = list(zip(a["warmup_inputs"], a["warmup_labels"], strict=True))
    terms = attach(net, [term], warmup, num_classes=classes, pretrained=frozen)
    empty = torch.zeros(size, width, dtype=torch.float64)
    term.set_queues(empty, empty, torch.zeros(size, dtype=torch.int64))
    for inputs, labels in warmup:
        features = inputs @ a["frozen_encoder"].T
        term.enqueue(features, features, labels)
    for t, (inputs, labels) in enumerate(zip(a["inputs"], a["labels"], strict=True)):
        iteration = int(a["iteration"][t])
        terms._context.clock = Clock(step_in_epoch=iteration)
        rotate = iteration % int(a["rotation_every"]) == 0
        calibrated = calibrate_queue(term.pretrained, term.live, term.queue_labels, a["weight"], a["step_mean_norm"][t], rotate=rotate)
        agree_calibrated(calibrated, a["step_calibrated"][t])
        agree(term.queue_labels, a["step_calibrated_labels"][t])
        net.zero_grad()
        loss = terms.loss(inputs, labels)
        loss.backward()
        agree(term.metrics()["feature_norm"], a["step_mean_norm"][t])
        rows = torch.cat([net.features.detach(), calibrated])
        agree(net.head(rows).detach(), a["step_logits"][t])
        agree(loss.detach(), a["step_loss"][t])
        agree(net.head.weight.grad, a["step_grad_weight"][t])
        agree(net.head.bias.grad, a["step_grad_bias"][t])
        agree(net.extractor.weight.grad, a["step_grad_encoder"][t])
        terms.after_step()
        for ours, stored in ((term.live, "down"), (term.pretrained, "pre"), (term.queue_labels, "label")):
            agree(ours, a[f"step_{stored}_queue"][t])
        agree(term.pointer, a["step_queue_ptr"][t])


def methods_drtune_singleton(a: Arrays) -> None:
    for rotate, name in ((True, "calibrated_rotate"), (False, "calibrated_no_rotate")):
        ours = calibrate_queue(a["pre_queue"], a["down_queue"], a["label_queue"], a["weight"], a["mean_norm"], rotate=rotate)
        agree_calibrated(ours, a[name])
