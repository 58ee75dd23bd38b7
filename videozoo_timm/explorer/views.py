"""What the explorer shows of a video and a model: one function a view, each from the analyses of this package.

A view gives what is played, the picture and the arrays to download, and what to type to get the same.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from .. import catalogue
from ..analysis import attend, box_mask, complete, patch_tokens, pca_colors, similar_patches
from ..analysis.attention import check_attention
from ..analysis.completion import check_mae, mask_shape
from ..analysis.feature_maps import color_frames
from ..analysis.features import num_blocks
from ..figures import heat, overlay, to_bytes
from ..inference.pipeline import takes_clips
from ..video import COMPLETION, is_image, seed_of
from .choices import Video
from .kept import Kept
from .recipes import command_of, python_of

__all__ = ['Panel', 'ShownView', 'SurpriseCurve', 'Viewing', 'attention', 'filled_in', 'similar']

ERROR_BRIGHTEST = 0.5  # of an error of pixels in [0, 1]
MASKS = ('box', 'random', 'temporal', 'center')


@dataclass
class Panel:
    """Frames that play.

    Attributes:
        label: What they are.
        frames: uint8 [T, H, W, 3].
    """

    label: str
    frames: np.ndarray


@dataclass
class SurpriseCurve:
    """Values along a video, each of which can be looked at closely.

    Attributes:
        label: What they are.
        times: In seconds.
        values: One for each time.
        chosen: Index of the one that is looked at.
        window: Its start and its end.
        duration: Of the video.
        frames: uint8 [n, H, W, 3], evenly from its start to its end.
    """

    label: str
    times: list[float]
    values: list[float]
    chosen: int
    window: tuple[float, float]
    duration: float
    frames: np.ndarray


@dataclass
class ShownView:
    """What a view shows of one model.

    Attributes:
        name: Of the view, and of files that are downloaded.
        model: Name of the model.
        panels: What plays, side by side.
        seconds: How long they take.
        told: What is told beside them, in a line.
        picture: Makes the picture to download, with a title.
        arrays: What it shows, as numbers.
        command: The command that gives the same.
        python: The lines of Python that do.
        grid: Tokens along time, height and width.
        box: t0, t1, y0, y1, x0, x1 of the box in frames and pixels, of a view in which one is dragged.
        patch: Which patch was chosen, of a view in which one is clicked.
        curve: The curve below the frames.
    """

    name: str
    model: str
    panels: list[Panel]
    seconds: float
    told: str
    picture: Callable[[], Any]
    arrays: dict[str, np.ndarray]
    command: str
    python: str
    grid: tuple[int, int, int] = (1, 1, 1)
    box: tuple[int, ...] | None = None
    patch: tuple[int, int, int] | None = None
    curve: SurpriseCurve | None = None


@dataclass
class Viewing:
    """A model, and the part of a video that it is shown.

    Attributes:
        video: The video.
        start: Start of the window, in seconds from the first frame; None is the centered one.
        name: Name of the model.
        model: The model.
        kept: What was computed of these before.
        file: The file that the model is from; '' of a published one.
    """

    video: Video
    start: float | None
    name: str
    model: Any
    kept: Kept = field(default_factory=Kept)
    file: str = ''

    @property
    def of_images(self) -> bool:
        """Whether the model takes single frames."""
        return not takes_clips(self.model)

    @property
    def named(self) -> dict[str, str]:
        """The option by which a command takes the model."""
        return dict(weights=self.file) if self.file else dict(model=self.name)

    @property
    def loading(self) -> str:
        """The call of Python that loads the model."""
        if hasattr(self.model, 'continue_'):
            return f'load_generator({self.file!r})' if self.file else f'load_model({self.name!r})'
        is_whole = self.of_images and hasattr(self.model, 'forward_decoder')  # an image MAE's name means its encoder
        if not self.file:
            return f'load_model({self.name!r}{", whole=True" * is_whole})'
        told = self.model.pretrained_cfg
        name = f'{told["architecture"]}.{told.get("tag")}'
        is_named = is_whole and any(record.timm_name == name for record in catalogue.WHOLE)
        return f'load_file({self.file!r}{f", {name!r}" * is_named})'

    @property
    def at(self) -> float | None:
        """The start as commands and calls take it; an image has none."""
        return None if is_image(self.video.path) else self.start

    @property
    def seconds(self) -> float:
        """How long the window takes."""
        return 1.0 if self.of_images or is_image(self.video.path) else COMPLETION.seconds

    def whole(self, view: str) -> dict[str, Any]:
        """Of an image encoder's attention whole frames are shown, as in the published pictures and by the command."""
        return dict(whole=self.model.patch_embed.patch_size[0]) if self.of_images and view == 'look' else {}

    def read(self, **views: Any) -> torch.Tensor:
        """The clip as the model takes it, [3, T, H, W], or [3, H, W]."""
        from ..inference.clips import clip_transform

        transform = clip_transform(self.model, COMPLETION, **views)
        key = 'clip', self.video.path, self.at, transform.views
        return self.kept.get(key, lambda: transform.read(self.video.path, start=self.at))

    def tokens(self, block: int) -> torch.Tensor:
        """The patch tokens of a block, [T', H', W', C]."""
        key = 'tokens', self.video.path, self.at, self.name, block
        return self.kept.get(key, lambda: patch_tokens(self.model, self.read(), block=block))

    def python(self, analyses: Sequence[str], *lines: str, **views: Any) -> str:
        """Lines of Python that begin with reading this clip."""
        has_own = hasattr(self.model, 'forward_decoder') or self.of_images
        sampling = '' if has_own else 'COMPLETION'
        return python_of(analyses, self.loading, self.video.typed, lines, start=self.at, sampling=sampling, **views)

    def command(self, name: str, *flags: str, **options: Any) -> str:
        """A command that reads this clip."""
        return command_of(name, self.video.typed, self.named, *flags, **options, start=self.at)

    def title(self, what: str) -> str:
        """The title of a picture."""
        return f'{self.video.label}, {self.name}, {what}'


def middle_box(grid: tuple[int, int, int], num_frames: int, size: int) -> tuple[int, ...]:
    """A box in the middle: about half of the frames, half of the height and half of the width, in whole tokens."""
    box: list[int] = []
    for tokens, length in zip(grid, (num_frames, size, size), strict=True):
        cell, first = length // tokens, tokens // 4
        box += [first * cell, max(tokens - first, first + 1) * cell]
    return tuple(box)


def filled_in(
    clip: Viewing, mask: str = 'box', ratio: float = 0.9, box: Sequence[int] | None = None, seed: int = 0
) -> ShownView:
    """What a masked autoencoder fills in where the mask hides the clip, or of a model of images one frame.

    Args:
        clip: The clip.
        mask: One of `MASKS`; of a model of images 'box' or 'random'.
        ratio: Fraction of the tokens that is masked, unless it is a box.
        box: As of `box_mask`, with times also of a model of images; None is one in the middle.
        seed: Random seed of a random mask; that of the file's name follows from it, as in the command.

    Raises:
        ValueError: The model fills nothing in, or there is no such mask.
    """
    check_mae(clip.model)
    of_images = clip.of_images
    if is_image(clip.video.path) and not of_images:
        raise ValueError('this is an image; image MAEs fill it in (mae_..., marked "image MAE" in the list)')
    if of_images and mask not in ('box', 'random'):
        raise ValueError('it fills in a single frame, which a box hides, or random patches, but no span of time')
    x = clip.read()
    first = (1,) if of_images else ()  # of an image there is one time
    grid, sizes = (*first, *mask_shape(clip.model)), (*first, *x.shape[1:])
    if mask == 'box':
        own = middle_box((grid[0], grid[1], grid[2]), sizes[0], sizes[1]) if box is None else tuple(box)
        typed = own[2:] if of_images and len(own) == 6 else own
        own = (0, 1, *typed) if of_images else own
        result = complete(clip.model, x, mask=box_mask(clip.model, typed))
        options: dict[str, Any] = dict(mask_box=typed)
        lines = [f'result = complete(model, x, mask=box_mask(model, {typed}))']
    else:
        of_file = seed_of(seed, clip.video.path)
        is_random = mask == 'random'
        result = complete(clip.model, x, mask_type=mask, mask_ratio=ratio, seed=of_file)
        own, options = None, dict(mask_type=mask, mask_ratio=ratio, seed=seed if is_random and seed else None)
        with_seed = f', seed=seed_of({seed}, {clip.video.typed!r})' if is_random else ''
        lines = [f'result = complete(model, x, mask_type={mask!r}, mask_ratio={ratio!r}{with_seed})']
    rows = {name: getattr(result, name).view(3, *sizes) for name in ('original', 'masked', 'completed')}
    error = (rows['completed'] - rows['original']).abs().mean(dim=0)  # [T, H, W]
    shown = [(name, pixels.transpose(0, 1)) for name, pixels in rows.items()]
    shown.append((f'error (brightest: {ERROR_BRIGHTEST:g})', heat(error, ERROR_BRIGHTEST)))
    hidden = result.mask.double().mean().item()
    psnr = f'{result.psnr:.2f} dB' if result.mask.any() else 'nothing is masked'
    return ShownView(
        'completion',
        clip.name,
        panels_of(shown),
        clip.seconds,
        f'PSNR of the masked pixels: {psnr} (the higher, the closer to the original). {100 * hidden:.0f}% of the '
        f'{"frame" if of_images else "clip"} is masked.',
        lambda: result.picture(clip.title(f'mask: {mask}, PSNR {psnr}')),
        result.arrays(),
        clip.command('complete', 'save-arrays', **options),
        clip.python(
            ['complete'] + ['box_mask'] * (mask == 'box'),
            *lines,
            "result.save('completion.npz')",
        ),
        (grid[0], grid[1], grid[2]),
        box=own,
    )


def attention(clip: Viewing, block: int = -1, heads: bool = False, threshold: float | None = None) -> ShownView:
    """Where the class token looks in a block.

    Args:
        clip: The clip.
        block: Index of the block; negative ones count from the end.
        heads: Each head apart instead of their mean.
        threshold: Keep the patches that hold this fraction of the attention.

    Raises:
        ValueError: The model has no class token.
    """
    check_attention(clip.model)
    views = clip.whole('look')
    key = 'attention', clip.video.path, clip.at, clip.name, block
    result = clip.kept.get(key, lambda: attend(clip.model, clip.read(**views), block=block))
    options: dict[str, Any] = dict(heads=heads, threshold=threshold)
    arrays = result.arrays(**options)
    maps, highest = result.maps(**options), arrays['highest'].tolist()
    if heads:
        shown = [('frames', result.frames)]
        shown += [(f'head {k}', heat(one, high)) for k, (one, high) in enumerate(zip(maps, highest, strict=True))]
    else:
        shown = [
            ('frames', result.frames),
            (f'attention (brightest: {highest:.2g})', heat(maps, highest)),
            ('overlay', overlay(result.frames, maps, highest)),
        ]
    what = f'class token in block {result.block}'
    kept = '' if threshold is None else f', the patches that hold {100 * threshold:g}% of it'
    given = ''.join([', heads=True' * heads, f', threshold={threshold!r}' * (threshold is not None)])
    return ShownView(
        'attention',
        clip.name,
        panels_of(shown),
        clip.seconds,
        f'Attention of the class token in block {result.block} of {num_blocks(clip.model)} (counted from 0){kept}.',
        lambda: result.picture(clip.title(f'{what}{kept}'), **options),
        arrays,
        clip.command('attend', *(['heads'] * heads), 'save-arrays', block=result.block, threshold=threshold),
        clip.python(
            ['attend'],
            f'result = attend(model, x, block={result.block})',
            f"result.save('attention.npz'{given})",
            **views,
        ),
        tuple(result.weights.shape[1:]),
    )


def similar(
    clip: Viewing, patch: Sequence[int] | None = None, block: int = -1, grid: Sequence[int] | None = None
) -> ShownView:
    """How similar each patch is to one of them, and all of them as colors.

    Args:
        clip: The clip.
        patch: Place of the patch along time, height and width; None is the one in the middle.
        block: Index of the block; negative ones count from the end.
        grid: The patches among which that place is, if they are those of another model.
    """
    block %= num_blocks(clip.model)
    x, tokens = clip.read(), clip.tokens(block)
    sizes = tokens.shape[:3]
    theirs = sizes if grid is None else grid
    wanted = [n // 2 for n in theirs] if patch is None else patch
    step, row, column = (
        min(max(int((k + 0.5) * n / m), 0), n - 1) for k, n, m in zip(wanted, sizes, theirs, strict=True)
    )
    place = step, row, column
    own = place[1:] if x.ndim == 3 else place
    result = similar_patches(clip.model, x, own, block=block, tokens=tokens)
    key = 'colors', clip.video.path, clip.at, clip.name, block
    colors = clip.kept.get(key, lambda: pca_colors([tokens])[0])
    frames, maps = result.frames, result.maps()
    height, width = frames.shape[-2:]
    shown = [
        ('frames', result.marked()),
        ('similarity', overlay(frames, maps, 1.0)),
        ('colors (PCA)', color_frames(colors, len(frames), (height, width))),
    ]
    text = ','.join(map(str, own))
    return ShownView(
        'similar',
        clip.name,
        panels_of(shown),
        clip.seconds,
        f'Cosine of each patch token in block {block} and that of patch {text}; the brightest is 1.',
        lambda: result.picture(clip.title(f'similarity to patch {text} in block {block}')),
        dict(result.arrays(), colors=colors.numpy()),
        clip.command('similar', 'save-arrays', patch=own, block=block) + '\n' + clip.command('pca', block=block),
        clip.python(
            ['pca', 'similar_patches'],
            f'result = similar_patches(model, x, {own}, block={block})',
            f'colors = pca(model, x, block={block})[0].colors',
            "np.savez('similar.npz', **result.arrays(), colors=colors)",
        ).replace('from videozoo_timm import', 'import numpy as np\nfrom videozoo_timm import', 1),
        (sizes[0], sizes[1], sizes[2]),
        patch=place,
    )


def panels_of(shown: Sequence[tuple[str, torch.Tensor]]) -> list[Panel]:
    """Labels and tiles [T, 3, H, W] in [0, 1] as what plays."""
    return [Panel(label, to_bytes(tiles)) for label, tiles in shown]
