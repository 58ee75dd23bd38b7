"""Pictures of surprise: the film, the curves below it, and the errors on the frames of its most surprising window."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ..figures import Curve, FilmPlot, Timeline, overlay, to_bytes, upsample
from ..inference.pipeline import evaluating, placement_of
from ..text import counted
from ..video import AS_PLAYED, Job, Pixels, Steps, VideoError, View, denormalize, read_clips, read_views
from ..video.views import prepare_view
from .pictured import Pictured

if TYPE_CHECKING:
    from .surprise_series import Series, Surprise

__all__ = ['SurprisePicture']

_STRIP = 10  # frames of a film above its curves
_FASTEST = 12.0  # frames a second of an animation
_DPI = 60  # of an animation
_WHAT = dict(mse='squared error', l1='normalized L1 error', nll='nats a code')


class SurprisePicture(Pictured):
    """What a picture of one video shows, or of several to compare.

    The videos are read again: a few frames of each, and its most surprising window.

    Args:
        result: The series of the videos.
        numbers: Which of them, by their places in it.
        labels: What to call each, if there are several.
        events: Times to mark, in seconds.
        pixels: As they were read.
        window: Which window is looked at closely, counted from 0; None is where the surprise is highest.

    Raises:
        VideoError, OSError: A video cannot be read any more.
        ValueError: There is no such window.
    """

    def __init__(
        self,
        result: 'Surprise',
        numbers: Sequence[int],
        labels: Sequence[str] = (),
        events: Sequence[float] = (),
        pixels: Pixels = AS_PLAYED,
        window: int | None = None,
    ) -> None:
        self.result, self.events, self.pixels = result, events, pixels
        self.series = [result.series[number] for number in numbers]
        self.labels = labels or ([''] if len(numbers) == 1 else [one.path for one in self.series])
        most = max(self.series, key=lambda one: float(one.scores.mean(dim=1).max()))
        self.windows = [
            _Window(result, one, pixels, *_most_surprising(most if most.starts == one.starts else one, window))
            for one in self.series
        ]

    def picture(  # pyright: ignore[reportIncompatibleMethodOverride]  # a picture over time has no columns
        self, title: str = '', captions: Sequence[str] = ()
    ) -> Timeline:
        """The picture; the captions are lines below the title."""
        highest = max(window.highest for window in self.windows)
        films = [
            FilmPlot(
                label,
                _frames_of(one, self.pixels, _STRIP),
                self._curves(one),
                *window.rows(highest),
                highest,
                window.times,
            )
            for one, label, window in zip(self.series, self.labels, self.windows, strict=True)
        ]
        return Timeline(
            films,
            max(one.duration for one in self.series),
            f'surprise ({_WHAT[self.result.score]})',
            [title, *captions],
            self.events,
        )

    def strip(self, number: int) -> torch.Tensor:
        """So many frames of the first video, evenly from its start to its end: [number, 3, H, W] in [0, 1]."""
        return _frames_of(self.series[0], self.pixels, number)

    def _curves(self, one: 'Series') -> list[Curve]:
        names = [f'{context} visible' for context in self.result.contexts] or ['']
        return [
            Curve(name, one.times(context), one.scores[:, k].numpy())
            for k, (name, context) in enumerate(zip(names, self.result.contexts or (0,), strict=True))
        ]

    def arrays(self) -> dict[str, np.ndarray]:
        """What it shows of the first video, as numbers.

        `starts`, `ends`, `contexts`, `scores`, the baselines; of the most surprising window `window`, `context`,
        `clip` [C, T, H, W] in [0, 1] and `map` [T', H', W'].
        """
        one, window = self.series[0], self.windows[0]
        return dict(
            starts=np.array(one.starts),
            ends=np.array(one.ends),
            contexts=np.array(self.result.contexts),
            scores=one.scores.numpy(),
            **{name: values.numpy() for name, values in one.baselines.items()},
            window=np.array(window.number),
            context=np.array(self.result.contexts[window.column] if self.result.contexts else 0),
            clip=window.clip.numpy(),
            map=window.map.numpy(),
        )

    def frames(self) -> Iterator[Any]:
        """The first video as it plays, with its curves and the errors that stand at each moment, as pictures of PIL.

        Needs the maps of all windows (`maps=True`).

        Raises:
            ValueError: They were not kept.
        """
        from PIL import Image, ImageDraw

        one = self.series[0]
        timeline = self.picture()
        still = timeline.curves_image(_DPI)
        step = max(one.views.step, 1 / _FASTEST)
        times = np.arange(0, one.duration, step)
        maps = _errors_at(one, times)  # [n, H', W']
        highest = float(maps[maps.isfinite()].quantile(0.995)) if maps.isfinite().any() else 1.0
        shown = _frames(one, self.pixels, times)  # [n, 3, H, W]
        errors = upsample(maps.nan_to_num().unsqueeze(1), 1, (shown.shape[2], shown.shape[3]))[:, 0]
        hot = torch.where(maps[:, :1, :1].isfinite().unsqueeze(1), overlay(shown, errors, highest), shown)
        side = (still.width - 3 * 8) // 2
        for k, time in enumerate(times):
            page = Image.new('RGB', (still.width, side * shown.shape[2] // shown.shape[3] + 16 + still.height), 'white')
            for place, tiles in enumerate((shown, hot)):
                tile = Image.fromarray(to_bytes(tiles[k : k + 1])[0])
                page.paste(tile.resize((side, side * tile.height // tile.width)), (8 + place * (side + 8), 8))
            page.paste(still, (0, page.height - still.height))
            x, (top, bottom) = timeline.position(time, _DPI), (page.height - still.height, page.height)
            ImageDraw.Draw(page).line((x, top, x, bottom - timeline.below(_DPI)), 'red', 2)
            yield page


def _most_surprising(one: 'Series', number: int | None) -> tuple[int, int]:
    """The window where the mean over the contexts is highest (or `number`), and the context that is highest there."""
    if number is None:
        number = int(one.scores.mean(dim=1).argmax())
    elif not 0 <= number < len(one.starts):
        raise ValueError(f'window={number}: {one.path} has {counted(len(one.starts), "window")}, counted from 0')
    return number, int(one.scores[number].argmax())


class _Window:
    """One window of a video, what the model expects in it, and the errors."""

    def __init__(self, result: 'Surprise', one: 'Series', pixels: Pixels, number: int, column: int) -> None:
        self.result, self.one, self.number, self.column = result, one, number, column
        view = next(iter(read_views(Job(0, one.path, self.number), one.views, pixels=pixels)), None)
        if not isinstance(view, View):
            raise VideoError(f'{one.path}: its window at {one.starts[self.number]:.2f} s is gone')
        scorer = result.scorer
        x = view.x.unsqueeze(0).to(**placement_of(scorer.model))  # [1, C, T, H, W]
        with evaluating(scorer.model):
            row = scorer(x, maps=True)[0, self.column]
            expected = scorer.expected(x, self.column)
        self.map = row[1 + len(scorer.baselines) :].unflatten(0, scorer.grid).float().cpu()  # [T', H', W']
        self.clip = denormalize(view.x, one.views.mean, one.views.std)  # [C, T, H, W]
        self.expected = None
        if expected is not None:
            self.expected = denormalize(expected[0].float().cpu(), one.views.mean, one.views.std)

    @property
    def times(self) -> tuple[float, float, float]:
        """Its start, until when its frames are visible, and its end."""
        start, end = self.one.starts[self.number], self.one.ends[self.number]
        seen = self.result.contexts[self.column] if self.result.contexts else 0
        return start, start + seen * self.one.views.step, end

    @property
    def highest(self) -> float:
        """The value that has the brightest color."""
        return float(self.map[self.map > 0].quantile(0.99)) if (self.map > 0).any() else 1.0

    def rows(self, highest: float) -> tuple[list[tuple[str, torch.Tensor]], list[str]]:
        """Labels and tiles, and captions; a tile for each step of the map."""
        steps, (num_frames, *size) = len(self.map), self.clip.shape[1:]
        last = torch.arange(1, steps + 1) * (num_frames // steps) - 1  # frame of each step
        clip = self.clip.transpose(0, 1)[last]  # [T', C, H, W]
        errors = upsample(self.map, steps, (size[0], size[1]))  # [T', H, W]
        hidden = (errors > 0).flatten(1).any(dim=1).view(-1, 1, 1, 1)
        rows = [('what comes', clip)]
        if self.expected is not None:
            rows.append(('what the\nmodel expects', self.expected.transpose(0, 1)[last]))
        rows.append(
            (
                'nats' if self.result.score == 'nll' else 'error',
                torch.where(hidden, overlay(clip, errors, highest), clip),
            )
        )
        if self.one.views.sampling.frames:  # in another order
            return rows, [''] * steps
        start, between = self.one.starts[self.number], self.one.views.step
        visible = hidden.flatten().logical_not().tolist()
        captions = [
            f'{start + k * between:.2f} s{" (visible)" * seen}' for k, seen in zip(last.tolist(), visible, strict=True)
        ]
        return rows, captions


def _errors_at(one: 'Series', times: np.ndarray) -> torch.Tensor:
    """The error at each moment, the mean over the windows and contexts that predict it: [n, H', W'], else NaN."""
    maps = one.maps
    if maps is None:
        raise ValueError('an animation shows the errors of all windows: keep them with maps=True')
    steps, between = maps.shape[2], one.views.sampling.seconds
    result = []
    for time in times:
        found = []
        for w, (start, end) in enumerate(zip(one.starts, one.ends, strict=True)):
            if start <= time < end:
                step = min(int((time - start) / between * steps), steps - 1)
                found += [part for part in maps[w, :, step] if part.any()]
        result.append(torch.stack(found).mean(dim=0) if found else maps.new_full(maps.shape[3:], torch.nan))
    return torch.stack(result)


def _frames_of(one: 'Series', pixels: Pixels, number: int) -> torch.Tensor:
    """So many frames of a video, evenly, each the middle of its part: [number, C, H, W]."""
    return _frames(one, pixels, np.linspace(0, one.duration, 2 * number + 1)[1::2])


def _frames(one: 'Series', pixels: Pixels, times: np.ndarray) -> torch.Tensor:
    """The frames that a video shows at these times, as the model gets them but with pixels in [0, 1]: [n, C, H, W]."""
    views = one.views
    step = float(times[1] - times[0]) if len(times) > 1 else 1.0
    sampling = Steps(len(times), 1, '', step)
    clip = next(read_clips(one.path, [float(times[0])], sampling=sampling, pixels=pixels))
    return denormalize(prepare_view(clip.frames, views), views.mean, views.std).transpose(0, 1)
