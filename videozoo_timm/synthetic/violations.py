"""Violations: pairs of scenes that are the same up to a moment, from which on one of them is impossible.

A textured shape crosses the frame. In the open the impossible happens in full view; behind a screen it happens while
the shape is hidden, and shows when it comes out again. Until then both films of a pair are equal to the bit.

Vanishing and appearing are counterparts: what is possible is in the one that the shape is there throughout, in the
other that it never is. A measure that merely grows with what there is to see is right in one and wrong in the other,
which is why published tests have both (IntPhys, https://arxiv.org/abs/1803.07616). It happens late in a film, so that
few windows show nothing but what comes after: these say how much there is to see, not what was unexpected.
"""

import math
import random
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from .scenes import (
    BARRIERS,
    BRIGHT,
    DARK,
    DURATION,
    RATE,
    REACH,
    TURNABLE,
    Layer,
    Scene,
    Texture,
    Trajectory,
    drifting,
    random_color,
    random_texture,
)

_EVENTS = ('vanish', 'appear', 'teleport', 'shape', 'color')
VIOLATIONS = (*_EVENTS, *(f'{event}-hidden' for event in _EVENTS), 'wall')

_COVER = 1.15  # half of a screen's width, in reaches of the shape that it hides: hidden for a moment, whole

_OfTime = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class _Course:
    """A shape's way across the frame.

    Attributes:
        axis: 0 from side to side, 1 up or down.
        sign: 1 to the right or down, -1 to the left or up.
        speed: In sides of the frame a second.
        middle: When it is in the middle, in seconds.
        across: Its place on the other axis.
        radius: Its radius.
        angle: Its angle.
    """

    axis: int
    sign: int
    speed: float
    middle: float
    across: float
    radius: float
    angle: float

    @classmethod
    def sample(cls, rng: random.Random) -> '_Course':
        """One on which the shape is in the frame for most of the time, to one side of the middle."""
        return cls(
            rng.randrange(2),
            rng.choice((-1, 1)),
            rng.uniform(0.17, 0.21),
            rng.uniform(0.62, 0.75) * DURATION,
            0.5 + rng.choice((-1, 1)) * rng.uniform(0.17, 0.25),
            rng.uniform(0.12, 0.15),
            rng.uniform(0, 2 * math.pi),
        )

    @property
    def event(self) -> float:
        """The time of the first frame after the middle."""
        return math.ceil(self.middle * RATE) / RATE

    def after(self, t: torch.Tensor) -> torch.Tensor:
        """1 from the event on, 0 before."""
        return (t > self.event - 0.5 / RATE).to(t.dtype)

    def trajectory(self, opacity: _OfTime = torch.ones_like, jump: float = 0.0, turns: bool = False) -> Trajectory:
        """The way as a `Layer`'s place.

        Args:
            opacity: Of time.
            jump: Distance by which the shape is displaced from the event on, on the other axis.
            turns: Whether it goes back from the middle on.
        """

        def place(t: torch.Tensor) -> tuple[torch.Tensor, ...]:
            distance = t - self.middle
            along = 0.5 + self.sign * self.speed * (-distance.abs() if turns else distance)
            x, y = along, self.across + jump * self.after(t)
            x, y = (x, y) if self.axis == 0 else (y, x)
            return x, y, torch.full_like(t, self.radius), torch.full_like(t, self.angle), opacity(t)

        return place

    def barrier(self, kind: str, texture: Texture, along: float, length: float) -> Layer:
        """A shape of `BARRIERS` that stands across the way."""
        x, y = (along, 0.5) if self.axis == 0 else (0.5, along)
        angle = 0.0 if self.axis else math.pi / 2

        def place(t: torch.Tensor) -> tuple[torch.Tensor, ...]:
            return *(torch.full_like(t, value) for value in (x, y, length, angle)), torch.ones_like(t)

        return Layer(kind, texture, place)


def make_violation(seed: int, number: int, violation: str, possible: bool) -> Scene:
    """One scene of a pair, the same for the same arguments.

    Args:
        seed: Random seed of a set of videos.
        number: The pair's number in the set. Pairs of one number have the background, the shape and its way in common.
        violation: One of `VIOLATIONS`; what happens behind a screen ends in `-hidden`.
        possible: Which of the two.

    Raises:
        ValueError: There is no such violation.
    """
    if violation not in VIOLATIONS:
        raise ValueError(f'no violation {violation!r}; there are {list(VIOLATIONS)}')
    rng = random.Random(f'violation {seed} {number}')
    course = _Course.sample(rng)
    heading, speed = rng.uniform(0, 2 * math.pi), rng.uniform(0.01, 0.05)
    background = Layer(
        None,
        random_texture(rng, random_color(rng, *DARK), (0.5, 1.4)),
        drifting(rng.random(), rng.random(), speed * math.cos(heading), speed * math.sin(heading), 0.0),
    )
    plain = Texture(random_color(rng, *DARK), ())  # of what stands in the way
    shape, other_shape = rng.sample(TURNABLE, 2)
    color = random_color(rng, *BRIGHT)
    texture = random_texture(rng, color, (0.8, 2.0))
    moving = Layer(shape, texture, course.trajectory())
    other = moving
    if violation.startswith('shape'):
        other = replace(moving, shape=other_shape)
    elif violation.startswith('color'):
        other = replace(moving, texture=replace(texture, color=_other_color(rng, color)))
    shapes = _possible(moving, course, violation) if possible else _impossible(moving, other, course, violation)
    barriers = []
    if violation == 'wall':
        length, reach = 0.6, REACH * course.radius
        along = 0.5 + course.sign * (reach + BARRIERS['wall'] * length)  # touched in the middle
        barriers = [course.barrier('wall', plain, along, length)]
    elif violation.endswith('-hidden'):
        length = _COVER * REACH * course.radius / BARRIERS['screen']
        barriers = [course.barrier('screen', plain, 0.5, length)]
    motion = (('left', 'right'), ('up', 'down'))[course.axis][course.sign > 0]
    return Scene(motion, (background, *shapes, *barriers))


def event_time(seed: int, number: int) -> float:
    """From when on the scenes of the pairs of a number may differ, in seconds; of hidden events, when they happen."""
    return _Course.sample(random.Random(f'violation {seed} {number}')).event


def _possible(moving: Layer, course: _Course, violation: str) -> list[Layer]:
    if violation.startswith('appear'):
        return []
    return [replace(moving, place=course.trajectory(turns=violation == 'wall'))]


def _impossible(moving: Layer, other: Layer, course: _Course, violation: str) -> list[Layer]:
    """`other` is what the shape becomes, where it changes."""

    def before(t: torch.Tensor) -> torch.Tensor:
        return 1 - course.after(t)

    if violation == 'wall':
        return [moving]
    if violation.startswith('teleport'):
        return [replace(moving, place=course.trajectory(jump=1 - 2 * course.across))]  # to the other side
    if violation.startswith('vanish'):
        return [replace(moving, place=course.trajectory(before))]
    later = replace(other, place=course.trajectory(course.after))
    return [later] if violation.startswith('appear') else [replace(moving, place=course.trajectory(before)), later]


def _other_color(rng: random.Random, color: tuple[float, float, float]) -> tuple[float, float, float]:
    """A color of shapes that is clearly another."""
    while True:
        other = random_color(rng, *BRIGHT)
        if sum(abs(a - b) for a, b in zip(color, other, strict=True)) > 0.5:
            return other
