"""How a cut-out person gets into a scene: posed, dressed, lit, blurred by motion, and pasted."""

from __future__ import annotations

import math
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from pa_lib.contracts import Disc
from pa_lib.data.outline_pieces import Cutout, Pixels

Floats = NDArray[np.float32]


class Figure(NamedTuple):
    """A person as they stand in a scene.

    Args:
        pixels: Color times alpha, and alpha, shape h w 4 in [0, 1].
        head: Middle and radius of the head in these pixels; None where unknown.
    """

    pixels: Floats
    head: Disc | None


def posed(cutout: Cutout, tall_px: float, rng: np.random.Generator, texture: Pixels | None) -> Figure:
    """A person in another pose, size and light.

    Cut-outs stand and walk; people in videos dance, bend and lie. So limbs are added, bodies bent at the hip, turned
    and warped: what remains true is that a person is one piece of cloth and skin against others.

    Args:
        cutout: The person.
        tall_px: Height of the upright person in the scene, in pixels.
        rng: Generator of what is random.
        texture: Pattern for cloth, RGB; None leaves it.
    """
    pixels, head = cutout.pixels, cutout.head
    if rng.random() < 0.5:
        pixels = pixels[:, ::-1]
        head = None if head is None else (pixels.shape[1] - 1 - head[0], *head[1:])
    scale = min(1.0, 1.25 * tall_px / pixels.shape[0])
    if scale < 1:  # shrunk at once: warping alone would alias
        size = max(4, round(pixels.shape[1] * scale)), max(4, round(pixels.shape[0] * scale))
        pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
        head = None if head is None else (head[0] * scale, head[1] * scale, head[2] * scale)
    scaled: Floats = np.divide(pixels, 255, dtype=np.float32)
    color, alpha = scaled[..., :3], scaled[..., 3:]
    if texture is not None:
        color = _dressed(color, texture, rng)
    color = _lit(color, rng)
    whole = np.concatenate([color * alpha, alpha], 2)
    is_body = whole.shape[0] > 1.4 * whole.shape[1]
    if is_body and rng.random() < 0.35:
        whole, head = _with_limb(whole, head, rng)
    return _warped(whole, head, tall_px / (cutout.pixels.shape[0] * scale), is_body, rng)


def blurred(figure: Figure, rng: np.random.Generator) -> Figure:
    """A person who moves while the shutter is open, or is a little out of focus."""
    pixels = figure.pixels
    draw = rng.random()
    if draw < 0.22:
        length = rng.uniform(2, max(2.5, 0.1 * pixels.shape[0]))
        reach = math.ceil(length / 2) + 1
        pixels = cv2.copyMakeBorder(pixels, reach, reach, reach, reach, cv2.BORDER_CONSTANT)
        pixels = cv2.filter2D(
            pixels, -1, motion_kernel(length, rng.uniform(0, math.pi)), borderType=cv2.BORDER_CONSTANT
        )
        head = figure.head and (figure.head[0] + reach, figure.head[1] + reach, figure.head[2])
        return Figure(pixels, head)
    if draw < 0.7:
        pixels = cv2.GaussianBlur(pixels, (0, 0), rng.uniform(0.3, 1.2))
    return figure._replace(pixels=pixels)


def motion_kernel(length: float, angle: float) -> Floats:
    """A line of this length in pixels, as weights that sum to 1."""
    side = 2 * math.ceil(length / 2) + 1
    kernel = np.zeros((side, side), np.float32)
    middle, along = side // 2, (math.cos(angle) * length / 2, math.sin(angle) * length / 2)
    ends = [(round(middle + sign * along[0]), round(middle + sign * along[1])) for sign in (-1, 1)]
    cv2.line(kernel, ends[0], ends[1], (1.0,), 1, cv2.LINE_AA)
    weights: Floats = kernel / kernel.sum()
    return weights


def smooth_noise(height: int, width: int, cells: int, channels: int, rng: np.random.Generator) -> Floats:
    """Normal noise on a grid of so many cells, made smooth, shape h w c."""
    grid = rng.standard_normal((cells, cells, channels)).astype(np.float32)
    grown: Floats = cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC).reshape(height, width, channels)
    return grown


def _dressed(color: Floats, texture: Pixels, rng: np.random.Generator) -> Floats:
    """A pattern over a band of the person: the chest or the legs."""
    height, width = color.shape[:2]
    top, bottom = ((0.17, 0.55), (0.5, 0.95), (0.17, 0.95))[int(rng.integers(3))]
    pattern = cv2.resize(texture, (width, height), interpolation=cv2.INTER_AREA).astype(np.float32) / 255
    band = np.clip((np.arange(height) / height - top) / 0.03, 0, 1) * np.clip(
        (bottom - np.arange(height) / height) / 0.03, 0, 1
    )
    share = (rng.uniform(0.3, 0.85) * band)[:, None, None].astype(np.float32)
    shade = color.mean(2, keepdims=True)
    dressed: Floats = color * (1 - share) + share * pattern * (0.4 + 1.2 * shade)
    return dressed


def _lit(color: Floats, rng: np.random.Generator) -> Floats:
    """Another color of cloth and light, and one side brighter than the other."""
    height, width = color.shape[:2]
    gain = np.exp(rng.normal(0, 0.3)) * np.exp(rng.normal(0, 0.1, 3))
    lit = np.clip(color, 0, 1) ** np.exp(rng.normal(0, 0.2)) * gain.astype(np.float32)
    if rng.random() < 0.4:  # cloth of another color: hues turn
        angle = rng.uniform(0, 2 * math.pi)
        mean = lit.mean(2, keepdims=True)
        axis = np.full(3, 1 / math.sqrt(3))
        across = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
        turn = np.eye(3) + math.sin(angle) * across + (1 - math.cos(angle)) * across @ across
        lit = mean + rng.uniform(0.6, 1.4) * ((lit - mean) @ turn.T.astype(np.float32))
    if rng.random() < 0.5:
        fall = np.linspace(-1, 1, width)[None] * rng.normal(0, 0.25) + np.linspace(-1, 1, height)[:, None] * rng.normal(
            0, 0.2
        )
        lit = lit * np.exp(fall)[..., None].astype(np.float32)
    clipped: Floats = np.clip(lit, 0, 1).astype(np.float32)
    return clipped


def _with_limb(pixels: Floats, head: Disc | None, rng: np.random.Generator) -> tuple[Floats, Disc | None]:
    """One leg of the person once more, as an arm or a leg that is stretched out."""
    height, width = pixels.shape[:2]
    half = slice(0, width // 2) if rng.random() < 0.5 else slice(width // 2, width)
    limb = pixels[int(height * rng.uniform(0.5, 0.6)) :, half]
    pad = int(0.4 * height)
    wide = cv2.copyMakeBorder(pixels, pad // 2, pad // 2, pad, pad, cv2.BORDER_CONSTANT)
    joint = (
        pad + width * rng.uniform(0.3, 0.7),
        pad // 2 + height * rng.choice([0.22, 0.5]) + height * rng.normal(0, 0.03),
    )
    scale = rng.uniform(0.6, 1.0)
    turn = cv2.getRotationMatrix2D((limb.shape[1] / 2, 0), rng.uniform(-180, 180), scale)
    turn[:, 2] += np.array(joint) - (limb.shape[1] / 2, 0)
    turn[0, :2] *= rng.uniform(0.6, 1.0)
    placed = cv2.warpAffine(limb, turn, (wide.shape[1], wide.shape[0]))
    under, over = (placed, wide) if rng.random() < 0.5 else (wide, placed)
    joined: Floats = over + under * (1 - over[..., 3:])
    return joined, head and (head[0] + pad, head[1] + pad // 2, head[2])


def _warped(pixels: Floats, head: Disc | None, scale: float, is_body: bool, rng: np.random.Generator) -> Figure:
    """Turned, scaled, bent and warped in one resampling."""
    height, width = pixels.shape[:2]
    kind = rng.random()
    angle = (
        rng.normal(0, 0.1) if kind < 0.7 else rng.uniform(-1.1, 1.1) if kind < 0.9 else rng.uniform(-math.pi, math.pi)
    )
    if not is_body:
        angle = rng.normal(0, 0.15)
    stretch = scale * np.exp(rng.normal(0, 0.08, 2))
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    forward = turn * stretch  # from the middle of the cut-out to the middle of the result
    reach = np.abs(forward) @ (width, height) * 1.15 + 4
    out_w, out_h = (int(min(side, 400)) for side in np.ceil(reach))
    backward = np.linalg.inv(forward).astype(np.float32)
    y, x = np.mgrid[:out_h, :out_w].astype(np.float32)
    x, y = x - out_w / 2, y - out_h / 2
    if rng.random() < 0.6:
        amount = 0.03 * max(out_h, out_w)
        shift = smooth_noise(out_h, out_w, int(rng.integers(3, 6)), 2, rng) * amount
        x, y = x + shift[..., 0], y + shift[..., 1]
    u, v = backward[0, 0] * x + backward[0, 1] * y + width / 2, backward[1, 0] * x + backward[1, 1] * y + height / 2
    if is_body and rng.random() < 0.4:
        hip, bend = height * rng.uniform(0.4, 0.6), rng.normal(0, 0.5)
        along = np.clip((v - hip) / (0.25 * height), 0, 1) * bend
        du, dv = u - width / 2, v - hip
        u, v = width / 2 + np.cos(along) * du - np.sin(along) * dv, hip + np.sin(along) * du + np.cos(along) * dv
    moved = cv2.remap(
        pixels, u.astype(np.float32), v.astype(np.float32), cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT
    )
    if head is not None:
        place = forward @ (head[0] - width / 2, head[1] - height / 2) + (out_w / 2, out_h / 2)
        head = float(place[0]), float(place[1]), head[2] * float(stretch.mean())
    return Figure(moved, head)
