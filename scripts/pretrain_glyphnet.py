"""Remakes the weights of ``demo:glyphnet`` from nothing: letters of matplotlib's fonts, distorted, classified.

    python scripts/pretrain_glyphnet.py

No digit and no handwriting is ever shown, so that fine-tuning on handwritten digits is a real transfer. Four fonts are held out to
measure what was learnt. Seeded and deterministic: one machine, thread count and set of library versions give the same weights. The
bytes of the file differ, since safetensors writes metadata in no fixed order.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path
from typing import NamedTuple

import matplotlib
import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

from holdfast.models.glyphnet import IMAGE_SIZE, LETTER_CLASSES, MEAN, STD, glyphnet

TRAIN_FONTS = (
    *("DejaVuSans", "DejaVuSans-Bold", "DejaVuSans-Oblique", "DejaVuSans-BoldOblique"),
    *("DejaVuSansMono", "DejaVuSansMono-Bold", "DejaVuSansMono-Oblique", "DejaVuSansMono-BoldOblique"),
    *("DejaVuSerif", "DejaVuSerif-Bold", "DejaVuSerif-Italic", "DejaVuSerif-BoldItalic"),
    *("STIXGeneral", "STIXGeneralBol", "STIXGeneralBolIta", "cmr10", "cmb10", "cmmi10"),
)
HELD_OUT_FONTS = ("STIXGeneralItalic", "cmss10", "cmti10", "cmtt10")
CANVAS = 2 * IMAGE_SIZE
GLYPH_SIDE = 40
"""Longer side of an undistorted glyph on the canvas, in pixels."""


class Glyphs(NamedTuple):
    """Undistorted letters: masks (N, 1, CANVAS, CANVAS), 1 where the stroke is, and labels (N,)."""

    masks: Tensor
    labels: Tensor


# --- rendering ---


def render(font: ImageFont.FreeTypeFont, letter: str) -> np.ndarray:
    """One letter, scaled to GLYPH_SIDE and centred: (CANVAS, CANVAS), from 0 to 1."""
    page = Image.new("L", (400, 400))
    ImageDraw.Draw(page).text((120, 80), letter, fill=255, font=font)
    box = page.getbbox()
    assert box is not None, f"{letter!r} is empty in {font.path}"
    glyph = page.crop(box)
    scale = GLYPH_SIDE / max(glyph.size)
    glyph = glyph.resize((max(1, round(glyph.width * scale)), max(1, round(glyph.height * scale))), Image.Resampling.LANCZOS)
    canvas = Image.new("L", (CANVAS, CANVAS))
    canvas.paste(glyph, ((CANVAS - glyph.width) // 2, (CANVAS - glyph.height) // 2))
    return np.asarray(canvas, dtype=np.float32) / 255


def load_glyphs(fonts: tuple[str, ...]) -> Glyphs:
    """Every letter that is in the fonts; the Computer Modern fonts have Latin letters only."""
    masks, labels = [], []
    for name in fonts:
        font = ImageFont.truetype(str(Path(matplotlib.get_data_path(), "fonts", "ttf", f"{name}.ttf")), size=160)
        for label, letters in enumerate(LETTER_CLASSES):
            for letter in letters:
                if letter.isascii() or not name.startswith("cm"):
                    masks.append(render(font, letter))
                    labels.append(label)
    return Glyphs(torch.from_numpy(np.stack(masks)).unsqueeze(1), torch.tensor(labels))


# --- distortion: one random draw for each image, all images at once ---


def uniform(count: int, low: float, high: float, rng: torch.Generator) -> Tensor:
    """(count,) draws between ``low`` and ``high``."""
    return low + (high - low) * torch.rand(count, generator=rng)


def warp(masks: Tensor, rng: torch.Generator) -> Tensor:
    """Rotates, shears, stretches, shifts and gently bends masks, and samples them at IMAGE_SIZE."""
    count = len(masks)
    angle, shear = uniform(count, -0.3, 0.3, rng), uniform(count, -0.4, 0.4, rng)
    across, down = uniform(count, -0.3, 0.3, rng).exp(), uniform(count, -0.3, 0.3, rng).exp()
    cos, sin = angle.cos(), angle.sin()
    shift = uniform(2 * count, -0.12, 0.12, rng).view(count, 2)
    matrix = torch.stack([cos * across, (cos * shear - sin) * down, sin * across, (sin * shear + cos) * down], dim=1).view(count, 2, 2)
    grid = functional.affine_grid(torch.cat([matrix, shift.unsqueeze(2)], dim=2), [count, 1, IMAGE_SIZE, IMAGE_SIZE], align_corners=False)
    bend = 0.06 * torch.randn(count, 2, 4, 4, generator=rng)
    grid = grid + functional.interpolate(bend, size=IMAGE_SIZE, mode="bicubic", align_corners=False).permute(0, 2, 3, 1)
    return functional.grid_sample(masks, grid, align_corners=False)


def blur(images: Tensor, sigma: Tensor) -> Tensor:
    """Gaussian blur of (B, 1, H, W), each image with its own sigma in pixels."""
    reach = 5
    offsets = torch.arange(-reach, reach + 1)
    kernel = torch.exp(-0.5 * (offsets / sigma.unsqueeze(1)) ** 2)
    kernel = (kernel / kernel.sum(dim=1, keepdim=True)).view(-1, 1, 1, 2 * reach + 1)
    stacked = images.transpose(0, 1)
    stacked = functional.conv2d(stacked, kernel, padding=(0, reach), groups=len(images))
    return functional.conv2d(stacked, kernel.transpose(2, 3), padding=(reach, 0), groups=len(images)).transpose(0, 1)


def restroke(masks: Tensor, rng: torch.Generator) -> Tensor:
    """Thickens or thins the strokes, then softens their edges."""
    count = len(masks)
    threshold = uniform(count, 0.15, 0.5, rng).view(-1, 1, 1, 1)
    strokes = torch.sigmoid(12 * (blur(masks, torch.full((count,), 0.8)) - threshold))
    return blur(strokes, uniform(count, 0.3, 2.0, rng))


def paint(masks: Tensor, rng: torch.Generator) -> Tensor:
    """Random stroke and ground colours, half of them grey, either the lighter; noise; (B, 3, H, W), normalised."""
    count = len(masks)
    dark, light = uniform(count, 0.0, 0.35, rng), uniform(count, 0.6, 1.0, rng)
    tint = 0.2 * (torch.rand(2, count, 3, generator=rng) - 0.5) * (torch.rand(count, 1, generator=rng) < 0.5)
    swap = torch.rand(count, generator=rng) < 0.5
    ground = (torch.where(swap, light, dark).unsqueeze(1) + tint[0]).view(count, 3, 1, 1)
    stroke = (torch.where(swap, dark, light).unsqueeze(1) + tint[1]).view(count, 3, 1, 1)
    noise = uniform(count, 0.0, 0.06, rng).view(-1, 1, 1, 1) * torch.randn(masks.shape, generator=rng)
    images = (ground + (stroke - ground) * masks + noise).clamp(0, 1)
    return (images - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)


def draw_batch(glyphs: Glyphs, count: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """``count`` distorted images of random letters, and their labels."""
    chosen = torch.randint(len(glyphs.labels), (count,), generator=rng)
    return paint(restroke(warp(glyphs.masks[chosen], rng), rng), rng), glyphs.labels[chosen]


# --- training ---


def one_cycle(step: int, steps: int, warmup_steps: int = 100) -> float:
    """Factor of the learning rate: a linear rise, and half a cosine down to 0 over the whole run."""
    return min(1.0, step / warmup_steps) * 0.5 * (1 + math.cos(math.pi * step / steps))


def train(glyphs: Glyphs, *, steps: int, batch_size: int, peak_lr: float, rng: torch.Generator) -> nn.Module:
    """Cross-entropy, SGD with Nesterov momentum, one cycle of the learning rate."""
    model = glyphnet().train()
    optimizer = torch.optim.SGD(model.parameters(), lr=peak_lr, momentum=0.9, nesterov=True, weight_decay=5e-4)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: one_cycle(step, steps))
    for step in range(steps):
        images, labels = draw_batch(glyphs, batch_size, rng)
        loss = functional.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if (step + 1) % 100 == 0:
            print(f"step {step + 1:5d}/{steps}  loss {loss.item():.3f}", flush=True)
    return model.eval()


@torch.no_grad()
def accuracy(model: nn.Module, glyphs: Glyphs, *, count: int, rng: torch.Generator) -> float:
    """Share of ``count`` fresh distorted images that are classified correctly."""
    hits = 0
    for _ in range(count // 250):
        images, labels = draw_batch(glyphs, 250, rng)
        hits += int((model(images).argmax(dim=1) == labels).sum())
    return hits / (count // 250 * 250)


def main() -> None:
    """Renders, trains, measures, writes."""
    package_asset = Path(__file__).resolve().parents[1] / "src" / "holdfast" / "assets" / "glyphnet.safetensors"
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, default=package_asset)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1, help="the weights depend on it in the last digits")
    options = parser.parse_args()

    started = time.perf_counter()
    torch.set_num_threads(options.threads)
    torch.use_deterministic_algorithms(True)
    torch.manual_seed(options.seed)
    rng = torch.Generator().manual_seed(options.seed)
    seen, unseen = load_glyphs(TRAIN_FONTS), load_glyphs(HELD_OUT_FONTS)
    print(f"{len(LETTER_CLASSES)} classes; {len(seen.labels)} glyphs to train on, {len(unseen.labels)} of held-out fonts")
    model = train(seen, steps=options.steps, batch_size=128, peak_lr=0.1, rng=rng)
    measured = {
        "train_accuracy": accuracy(model, seen, count=5000, rng=rng),
        "held_out_font_accuracy": accuracy(model, unseen, count=5000, rng=rng),
    }
    print("  ".join(f"{name} {value:.4f}" for name, value in measured.items()), f" {time.perf_counter() - started:.0f} s")
    metadata = {
        "architecture": "holdfast.models.glyphnet:glyphnet",
        "classes": json.dumps(LETTER_CLASSES, ensure_ascii=False),
        "fonts": json.dumps(TRAIN_FONTS),
        "held_out_fonts": json.dumps(HELD_OUT_FONTS),
        "seed": str(options.seed),
        "steps": str(options.steps),
        **{name: f"{value:.4f}" for name, value in measured.items()},
    }
    save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, options.out, metadata)
    options.out.chmod(0o644)  # safetensors writes files that only their owner can read
    print(f"wrote {options.out} ({options.out.stat().st_size / 1e6:.2f} MB)")


if __name__ == "__main__":
    main()
