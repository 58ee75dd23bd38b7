"""Views of what comes next: how surprising a video is along its time, and how a generator goes on."""

from typing import Any

import numpy as np
import torch

from ..analysis import surprise
from ..analysis.surprise_series import CONTEXTS
from ..figures import Grid, overlay, upsample
from ..inference.clips import clip_transform
from ..inference.pipeline import takes_clips
from ..video import is_image
from .recipes import command_of, python_of
from .views import ShownView, SurpriseCurve, Viewing, panels_of

__all__ = ['continued', 'surprising']

_SCORES = dict(mse='squared error', l1='normalized L1 error', nll='negative log-likelihood, nats a code')
_THUMBS = 12  # frames of the whole video above the curve


def surprising(clip: Viewing, window: int | None = None, score: str = 'mse') -> ShownView:
    """How far what comes is from what a masked autoencoder, or a generator, expects, along the whole video.

    Args:
        clip: The video and the model; the start does not matter, as windows slide over the whole video.
        window: Which window is looked at closely; None is the most surprising one.
        score: 'mse' or 'l1'; of a generator it is 'nll' in any case.

    Raises:
        ValueError: The model predicts nothing of clips, or it is an image.
        VideoError: The video is shorter than a window.
    """
    if is_image(clip.video.path):
        raise ValueError('Surprise is of videos: this is an image')
    model = clip.model
    of_generator = hasattr(model, 'log_likelihood_of_codes')
    score = 'nll' if of_generator else score
    contexts = _contexts_of(model)
    own: dict[str, Any] = {} if contexts == CONTEXTS else dict(contexts=contexts)
    key = 'surprise', clip.video.path, clip.name, score
    result = clip.kept.get(key, lambda: surprise(model, [clip.video.path], score=score, **own))
    picture = clip.kept.get((*key, window), lambda: result.picture(0, window=window))
    one, looked = result.series[0], picture.windows[0]
    frames = looked.clip.transpose(0, 1)  # [T, 3, H, W]
    errors = upsample(looked.map, len(frames), (frames.shape[2], frames.shape[3]))  # [T, H, W]
    hidden = (errors > 0).flatten(1).any(dim=1).view(-1, 1, 1, 1)
    seen = result.contexts[looked.column]
    shown = [('what comes', frames)]
    if looked.expected is not None:
        shown.append((f'expected after {seen} frames', looked.expected.transpose(0, 1)))
    what = f'nats (brightest: {looked.highest:.2g})' if of_generator else 'error'
    shown.append((what, torch.where(hidden, overlay(frames, errors, looked.highest), frames)))
    mean = one.scores.mean(dim=1)
    start, end = one.starts[looked.number], one.ends[looked.number]
    strip = clip.kept.get(('strip', *key), lambda: picture.strip(_THUMBS))
    curve = SurpriseCurve(
        _SCORES[score],
        np.mean([one.times(context) for context in result.contexts], axis=0).tolist(),
        mean.tolist(),
        looked.number,
        (start, end),
        one.duration,
        panels_of([('', strip)])[0].frames,
    )
    options = {} if score == 'mse' else dict(score=score)
    options |= own
    told = ''.join(f', {name}={value!r}' for name, value in options.items())
    at = '' if window is None else f', window={window}'
    lines = [
        f'result = surprise(model, {clip.video.typed!r}{told})',
        f"result.picture(0{at}).save('surprise.npz')",
    ]
    return ShownView(
        'surprise',
        clip.name,
        panels_of(shown),
        end - start,
        f'Window {looked.number}, {start:.2f} to {end:.2f} s: {_SCORES[score]} {mean[looked.number]:.4f} (mean over '
        f'{", ".join(map(str, result.contexts))} visible frames). Whole video: {mean.mean():.4f}.',
        lambda: picture.picture(f'{clip.video.label}, {clip.name}, {score}'),
        picture.arrays(),
        command_of(
            'surprise',
            clip.video.typed,
            clip.named,
            'save-arrays',
            **options,
            window=window,
        ),
        python_of(['surprise'], clip.loading, clip.video.typed, lines, read=False),
        tuple(looked.map.shape),
        curve=curve,
    )


def _contexts_of(model: Any) -> tuple[int, ...]:
    """Numbers of visible frames that a model allows: of the usual ones, or else the first of all."""
    if not takes_clips(model):
        return CONTEXTS  # `surprise` says what it lacks
    unit = model.tubelet_size if hasattr(model, 'tubelet_size') else model.num_frames // model.grid_size[0]
    usual = tuple(context for context in CONTEXTS if context % unit == 0 and context <= model.num_frames - unit)
    return usual or tuple(range(unit, model.num_frames, unit))[: len(CONTEXTS)]


def continued(clip: Viewing, context: int | None = None, samples: int = 2, seed: int = 0) -> ShownView:
    """How a generator of videos goes on after the first frames of a clip.

    Args:
        clip: The video, and the generator.
        context: Frames that are given, a multiple of the frames of a code; None for half of the model's.
        samples: Continuations.
        seed: Random seed.

    Raises:
        ValueError: The model is no generator of videos, an invalid number of frames, or it is an image.
    """
    if not hasattr(clip.model, 'continue_'):
        raise ValueError('Continue takes a generator of videos')
    if is_image(clip.video.path):
        raise ValueError('Continue takes a video: this is an image')
    transform = clip_transform(clip.model)
    key = 'clip', clip.video.path, clip.at, transform.views
    x = clip.kept.get(key, lambda: transform.read(clip.video.path, start=clip.at)).clamp(0, 1)
    step = clip.model.vqgan.config.downsample[0]
    num_given = clip.model.num_frames // 2 // step * step if context is None else context
    key = 'continued', clip.video.path, clip.at, clip.name, num_given, samples, seed
    result = clip.kept.get(
        key, lambda: clip.model.continue_(x.unsqueeze(0), context=num_given, samples=samples, seed=seed)
    )
    given, drawn = result.given[0], result.drawn[0].cpu()
    rows = [('what comes', x.transpose(0, 1))]
    rows += [
        (f'continued, {k + 1}', _marked(torch.cat([given, one], dim=1), num_given).transpose(0, 1))
        for k, one in enumerate(drawn)
    ]
    options: dict[str, Any] = dict(context=num_given, samples=samples, seed=seed)
    told = ', '.join(f'{name}={value}' for name, value in options.items())
    sampling = transform.sampling
    seconds = (sampling.span - 1) / max(sampling.num_frames - 1, 1) * sampling.num_frames / 30
    given_video: dict[str, Any] = {'continue': clip.video.typed}
    command = command_of('generate', None, clip.named, **given_video, start=clip.at, dtype='float32', **options)
    return ShownView(
        'continuation',
        clip.name,
        panels_of(rows),
        seconds,
        f'{num_given} of {x.shape[1]} frames are given; a red line is above those that {clip.name} sampled.',
        lambda: Grid(rows, title=clip.title(f'{num_given} frames given')),
        dict(given=result.given.cpu().numpy(), drawn=result.drawn.cpu().numpy()),
        command,
        python_of(
            [],
            clip.loading,
            clip.video.typed,
            [
                f'result = model.continue_(x.unsqueeze(0).clamp(0, 1), {told})',
                "np.savez('continuation.npz', given=result.given, drawn=result.drawn)",
            ],
            start=clip.at,
        ).replace('from videozoo_timm import', 'import numpy as np\nfrom videozoo_timm import', 1),
        clip.model.grid_size,
    )


def _marked(clip: torch.Tensor, context: int) -> torch.Tensor:
    """A clip [3, T, H, W] with a red line above the frames that were sampled."""
    clip = clip.clone()
    clip[:, context:, : max(1, clip.shape[-1] // 32)] = torch.tensor([1.0, 0.0, 0.0]).view(3, 1, 1, 1)
    return clip
