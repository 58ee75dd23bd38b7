"""Scenes: textured shapes that move over moving textured backgrounds, named by their motion.

A scene follows from its seed and its number, a frame from its scene and its time, so both are computed where needed.
Lengths are in units of the frame's side, with the origin in its top left corner, angles in radians, times in seconds.
"""

import math
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ..catalogue import MOTIONS

DURATION = 4.5  # seconds; a little longer than a recognition clip
SIZE = 128  # pixels
MAX_SIZE = 2048
RATE = 30  # frames a second, of files

_SHAPES = ('disc', 'triangle', 'square', 'pentagon', 'star', 'cross', 'ring', 'ellipse')
TURNABLE = tuple(s for s in _SHAPES if s not in ('disc', 'ring'))  # whose rotation can be seen
BARRIERS = {'screen': 0.25, 'wall': 0.08}  # rectangles: half of the width, in halves of the length
REACH = 1.07  # radii from a shape's center to its farthest point, the corners of the cross and of the screen
_SIDES = {'triangle': 3, 'square': 4, 'pentagon': 5}
DARK, BRIGHT = (0.05, 0.4), (0.5, 0.95)  # mean colors of the background, and of shapes; of each channel


@dataclass(frozen=True)
class Texture:
    """A color plus waves of color; `edges` above 0 turns waves into stripes and checks.

    Attributes:
        color: RGB, 0 to 1.
        waves: (frequency along u, along v, phase, (red, green, blue amplitude)).
        edges: How steep the flanks of the waves are; 0 leaves sines.
    """

    color: tuple[float, float, float]
    waves: tuple[tuple[float, float, float, tuple[float, float, float]], ...]
    edges: float = 0.0

    def at(self, dx: torch.Tensor, dy: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
        """Colors around a shape's center.

        Args:
            dx: Distances of the columns from the center [T, W].
            dy: Distances of the rows [T, H].
            cos: Of the angle, divided by the radius [T, 1].
            sin: As `cos`.

        Returns:
            [T, 3, H, W].
        """
        shape = len(dx), 3, dy.shape[1], dx.shape[1]
        result = torch.tensor(self.color).view(1, 3, 1, 1).expand(shape).contiguous()
        for along_u, along_v, phase, amplitude in self.waves:
            # The sine of a sum by sines of rows and of columns: few of them are computed, not one for each pixel.
            columns = 2 * math.pi * (along_u * cos - along_v * sin) * dx
            rows = 2 * math.pi * (along_u * sin + along_v * cos) * dy + phase
            wave = rows.cos().unsqueeze(2) * columns.sin().unsqueeze(1)  # [T, H, W]
            wave.addcmul_(rows.sin().unsqueeze(2), columns.cos().unsqueeze(1))
            if self.edges:
                wave.mul_(self.edges).tanh_()
            for channel, strength in enumerate(amplitude):
                result[:, channel].add_(wave, alpha=strength)
        return result


@dataclass(frozen=True)
class Layer:
    """A shape, or with `shape=None` the background.

    Attributes:
        shape: One of the known shapes.
        texture: In the coordinates of the shape, which move with it.
        place: From times [T] to center x, center y, radius, angle and opacity, [T] each.
    """

    shape: str | None
    texture: Texture
    place: Callable[[torch.Tensor], tuple[torch.Tensor, ...]]

    def render_over(self, frames: torch.Tensor | None, times: torch.Tensor, size: int) -> torch.Tensor:
        """Frames [T, 3, size, size] with this layer in front of them; a shape changes them in place."""
        x, y, radius, angle, opacity = (value.view(-1, 1) for value in self.place(times))
        cos, sin = angle.cos() / radius, angle.sin() / radius
        if self.shape is None or frames is None:
            pixels = (torch.arange(size) + 0.5) / size
            return self.texture.at(pixels - x, pixels - y, cos, sin)
        # Only in a square around the shape, as large in all frames.
        side = min(size, 16 * math.ceil((2 * REACH * radius.max().item() * size + 2) / 16))
        left, top = (((center - REACH * radius) * size - 1).floor().long().clamp(0, size - side) for center in (x, y))
        pixels = torch.arange(side)
        dx, dy = (left + pixels + 0.5) / size - x, (top + pixels + 0.5) / size - y  # [T, side]
        u = (cos * dx).unsqueeze(1) + (sin * dy).unsqueeze(2)  # [T, side, side]
        v = (cos * dy).unsqueeze(2) - (sin * dx).unsqueeze(1)
        # Half a pixel to either side of the edge is blended.
        cover = _distance(self.shape, u, v).mul_((-size * radius).unsqueeze(2)).add_(0.5).clamp_(0, 1)
        cover = cover.mul_(opacity.unsqueeze(2)).unsqueeze(1)  # [T, 1, side, side]
        color = self.texture.at(dx, dy, cos, sin)
        for frame, i, j, new, weight in zip(frames, top, left, color, cover, strict=True):
            frame[:, i : i + side, j : j + side].lerp_(new, weight)
        return frames


def _distance(shape: str, u: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """About the distance from a shape's edge in units of its radius, negative inside."""
    if shape in _SIDES:
        sides = _SIDES[shape]
        angles = [2 * math.pi * k / sides - math.pi / 2 for k in range(sides)]
        planes = [math.cos(angle) * u - math.sin(angle) * v for angle in angles]
        distance = planes[0]
        for plane in planes[1:]:
            distance = torch.maximum(distance, plane)
        return distance - math.cos(math.pi / sides)
    if shape in BARRIERS:
        return torch.maximum(u.abs() - 1, v.abs() - BARRIERS[shape])
    if shape == 'cross':
        a, b = u.abs(), v.abs()
        return torch.minimum(torch.maximum(a - 1, b - 0.36), torch.maximum(a - 0.36, b - 1))
    if shape == 'ellipse':
        return ((u.square() + 3 * v.square()).sqrt_() - 1) / 1.4
    r = (u.square() + v.square()).sqrt_()
    if shape == 'ring':
        return (r - 0.72).abs_() - 0.28
    if shape == 'star':
        return (r - 0.7 - 0.28 * torch.cos(5 * torch.atan2(u, -v))) / 1.5
    return r - 1


@dataclass(frozen=True)
class Scene:
    """A synthetic video.

    Attributes:
        motion: One of `MOTIONS`: how its large shapes move.
        layers: From back to front; the first is the background.
    """

    motion: str
    layers: tuple[Layer, ...]

    def render(self, times: Sequence[float] | torch.Tensor, size: int = SIZE) -> torch.Tensor:
        """Frames at these times, uint8 [T, size, size, 3]."""
        times = torch.as_tensor(times, dtype=torch.float32)
        background, *shapes = self.layers
        frames = background.render_over(None, times, size)
        for layer in shapes:
            frames = layer.render_over(frames, times, size)
        return frames.clamp_(0, 1).mul_(255).round_().to(torch.uint8).permute(0, 2, 3, 1).contiguous()

    def images(self, size: int = SIZE) -> Iterator[np.ndarray]:
        """All frames of the video at `RATE`, uint8 [size, size, 3] each."""
        times = torch.arange(round(DURATION * RATE)) / RATE
        for some in times.split(RATE):  # not all are held in floats at once
            yield from self.render(some, size).numpy()


def make_scene(seed: int, number: int, motion: str | None = None) -> Scene:
    """A scene, the same for the same arguments.

    Args:
        seed: Random seed of a set of videos.
        number: The scene's number in the set.
        motion: One of `MOTIONS`; a random one if None. Scenes of one number differ in nothing else.

    Raises:
        ValueError: There is no such motion.
    """
    if motion is not None and motion not in MOTIONS:
        raise ValueError(f'no motion {motion!r}; there are {list(MOTIONS)}')
    rng = random.Random(f'{seed} {number}')  # of all that the motions of one number have in common
    sampled = rng.choice(MOTIONS)
    motion = motion or sampled
    heading, speed = rng.uniform(0, 2 * math.pi), rng.uniform(0.01, 0.05)
    layers = [
        Layer(
            None,
            random_texture(rng, random_color(rng, *DARK), (0.5, 1.4)),
            drifting(
                rng.random(),
                rng.random(),
                speed * math.cos(heading),
                speed * math.sin(heading),
                rng.uniform(-0.03, 0.03),
            ),
        )
    ]
    small = [_bouncing(rng)] if rng.random() < 0.3 else []
    if rng.random() < 0.2:
        small.append(_appearing(rng))
    large = [_large(rng, motion, place) for place in _places(rng, 1 if rng.random() < 0.85 else 2)]
    layers += small[:1] + large + small[1:]
    if rng.random() < 0.2:
        layers.append(_bar(rng))
    return Scene(motion, tuple(layers))


_Place = tuple[float, float, float]  # center x, center y, radius
Trajectory = Callable[[torch.Tensor], tuple[torch.Tensor, ...]]  # `Layer.place`
_Range = tuple[float, float]


def _places(rng: random.Random, number: int) -> list[_Place]:
    """Center, in the middle of the video, and radius of the large shapes; what grows has 1.5 times that in the end."""
    if number == 1:
        return [(rng.uniform(0.44, 0.56), rng.uniform(0.44, 0.56), rng.uniform(0.18, 0.26))]
    along, across = rng.uniform(0.27, 0.32), rng.uniform(0.38, 0.62)
    x, y = (across, along) if rng.random() < 0.5 else (along, across)
    return [(x, y, rng.uniform(0.14, 0.18)), (1 - x, 1 - y, rng.uniform(0.14, 0.18))]


def _large(rng: random.Random, motion: str, place: _Place) -> Layer:
    x, y, radius = place
    angle, sign, pace = rng.uniform(0, 2 * math.pi), rng.choice((-1, 1)), rng.random()
    shape = rng.choice(TURNABLE)
    texture = random_texture(rng, random_color(rng, *BRIGHT), (0.8, 2.0))
    if motion in ('left', 'right', 'up', 'down'):
        speed = 0.18 + 0.14 * pace
        vx, vy = {'left': (-speed, 0), 'right': (speed, 0), 'up': (0, -speed), 'down': (0, speed)}[motion]
        return Layer(shape, texture, _through(x, y, vx, vy, radius, angle))
    if motion == 'rotate':
        return Layer(shape, texture, _turning(x, y, radius, angle, sign * (0.9 + 0.9 * pace)))
    if motion in ('grow', 'shrink'):
        growth = (0.35 + 0.15 * pace) * (1 if motion == 'grow' else -1)
        return Layer(shape, texture, _scaling(x, y, 1.5 * radius, angle, growth))
    return Layer(shape, texture, _turning(x, y, radius, angle, 0.0))


def _bouncing(rng: random.Random) -> Layer:
    radius, heading, speed = rng.uniform(0.05, 0.08), rng.uniform(0, 2 * math.pi), rng.uniform(0.2, 0.5)
    x, y, spin = rng.random(), rng.random(), rng.uniform(-1, 1)

    def place(t: torch.Tensor) -> tuple[torch.Tensor, ...]:
        position = [
            radius + (1 - 2 * radius) * (1 - ((start + velocity * t) % 2 - 1).abs())
            for start, velocity in ((x, speed * math.cos(heading)), (y, speed * math.sin(heading)))
        ]
        return *position, torch.full_like(t, radius), spin * t, torch.ones_like(t)

    return Layer(rng.choice(_SHAPES), random_texture(rng, random_color(rng, *BRIGHT), (0.8, 2.0)), place)


def _appearing(rng: random.Random) -> Layer:
    radius, x, y = rng.uniform(0.06, 0.09), rng.uniform(0.15, 0.85), rng.uniform(0.15, 0.85)
    start, end = sorted(rng.uniform(0, DURATION) for _ in range(2))
    angle = rng.uniform(0, 2 * math.pi)

    def place(t: torch.Tensor) -> tuple[torch.Tensor, ...]:
        opacity = ((t - start) / 0.3).clamp(0, 1) * ((end + 0.6 - t) / 0.3).clamp(0, 1)
        return *(torch.full_like(t, value) for value in (x, y, radius, angle)), opacity

    return Layer(rng.choice(_SHAPES), random_texture(rng, random_color(rng, *BRIGHT), (0.8, 2.0)), place)


def _bar(rng: random.Random) -> Layer:
    """A narrow ellipse in front of everything, which hides a part of what passes behind it."""
    return Layer(
        'ellipse',
        Texture(random_color(rng, *DARK), ()),
        _turning(
            rng.uniform(0.15, 0.85), rng.uniform(0.15, 0.85), rng.uniform(0.12, 0.2), rng.choice((0, math.pi / 2)), 0.0
        ),
    )


def drifting(x: float, y: float, vx: float, vy: float, spin: float) -> Trajectory:
    """From a place with a velocity, turning; of radius 1."""
    return lambda t: (x + vx * t, y + vy * t, torch.ones_like(t), spin * t, torch.ones_like(t))


def _through(x: float, y: float, vx: float, vy: float, radius: float, angle: float) -> Trajectory:
    """Through the frame and, once out of sight, in again on the other side."""

    def wrapped(start: float, velocity: float, t: torch.Tensor) -> torch.Tensor:
        if not velocity:
            return torch.full_like(t, start)
        room = 1 + 2.2 * radius
        return (start + velocity * (t - DURATION / 2) + 1.1 * radius) % room - 1.1 * radius

    return lambda t: (
        wrapped(x, vx, t),
        wrapped(y, vy, t),
        torch.full_like(t, radius),
        torch.full_like(t, angle),
        torch.ones_like(t),
    )


def _turning(x: float, y: float, radius: float, angle: float, spin: float) -> Trajectory:
    return lambda t: (
        *(torch.full_like(t, value) for value in (x, y, radius)),
        angle + spin * (t - DURATION / 2),
        torch.ones_like(t),
    )


def _scaling(x: float, y: float, radius: float, angle: float, growth: float) -> Trajectory:
    """Up to this radius, or down from it."""
    return lambda t: (
        torch.full_like(t, x),
        torch.full_like(t, y),
        radius * (growth * (t - DURATION if growth > 0 else t)).exp(),
        torch.full_like(t, angle),
        torch.ones_like(t),
    )


def random_color(rng: random.Random, darkest: float, brightest: float) -> tuple[float, float, float]:
    """RGB, each between these two."""
    return rng.uniform(darkest, brightest), rng.uniform(darkest, brightest), rng.uniform(darkest, brightest)


def random_texture(rng: random.Random, color: tuple[float, float, float], wavelengths: _Range) -> Texture:
    """One to three waves around a color, with wavelengths in this range, in units of the layer's radius."""
    waves, strength = [], rng.uniform(0.08, 0.2)
    for _ in range(rng.choice((1, 2, 2, 3))):
        direction, frequency = rng.uniform(0, math.pi), 1 / rng.uniform(*wavelengths)
        waves.append(
            (
                frequency * math.cos(direction),
                frequency * math.sin(direction),
                rng.uniform(0, 2 * math.pi),
                tuple(strength * rng.uniform(-1, 1) for _ in range(3)),
            )
        )
    return Texture(color, tuple(waves), rng.choice((0.0, 0.0, 2.0)))
