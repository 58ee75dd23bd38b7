"""Labels of a video's first frame, carried through the video by the likeness of patch tokens.

The protocol is that of the published `evaluate_vidseg.py` (https://github.com/eminorhan/mae_st), which follows DINO
(https://arxiv.org/abs/2104.14294). Nothing is trained: each patch takes the labels of the patches that it is most like,
in the first frame and in a few frames before it.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import chain
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from ..inference.checks import check_finite, checked_model, name_of
from ..inference.pipeline import evaluating, placement_of, takes_clips
from .features import checked_block

__all__ = ['check_propagation', 'each_labeled', 'each_propagated', 'propagate', 'propagate_labels', 'to_label_map']

SHORT_SIDE = 480  # pixels
_MULTIPLE = 64  # pixels; the long side is cut to such
_MEAN, _STD = (0.485, 0.456, 0.406), (0.228, 0.224, 0.225)  # as published, whatever the model

Size = tuple[int, int]  # height, width


def propagate(
    features: torch.Tensor | Iterable[torch.Tensor],
    first_labels: torch.Tensor,
    *,
    radius: int = 12,
    topk: int = 5,
    num_previous: int = 7,
    temperature: float = 0.1,
) -> torch.Tensor:
    """Carry the labels of the first frame's patches through a video.

    Sources of a frame's labels are the first frame and the frames right before it. A source patch weighs
    exp(cosine similarity / temperature). The best of all sources together are kept, and their weights sum to 1.

    Args:
        features: Patch tokens of each frame, [T, N, C]; or one frame after the other, [N, C] each.
        first_labels: Of the first frame's patches: whole numbers [H', W'] with H' * W' = N, from 0 on; or the fraction
            of each label, [K, H', W'].
        radius: Sources lie at most this many rows and columns of patches away; 0 for anywhere.
        topk: How many source patches are kept; more if several are alike as the last of them.
        num_previous: Frames before it that are sources, beside the first one.
        temperature: The smaller, the more the most similar patch decides.

    Returns:
        float32 [T - 1, K, H', W'], the fraction of each label in the frames after the first.

    Raises:
        ValueError: A number is out of range, or the features do not fit the labels.
    """
    options: dict[str, Any] = dict(radius=radius, topk=topk, num_previous=num_previous, temperature=temperature)
    results = list(each_propagated(features, first_labels, **options))
    return torch.stack(results) if results else _fractions(first_labels)[None][:0]


def each_propagated(
    features: torch.Tensor | Iterable[torch.Tensor],
    first_labels: torch.Tensor,
    *,
    radius: int = 12,
    topk: int = 5,
    num_previous: int = 7,
    temperature: float = 0.1,
) -> Iterator[torch.Tensor]:
    """As `propagate`, one frame after the other: [K, H', W'] of each frame but the first.

    Only the tokens of the sources are held.
    """
    _check_range('topk', topk, 1)
    _check_range('radius', radius, 0)
    _check_range('num_previous', num_previous, 0)
    if not temperature > 0:
        raise ValueError(f'temperature={temperature}: must be above 0')
    labels = _fractions(first_labels)
    first: tuple[torch.Tensor, torch.Tensor] | None = None
    previous: deque[tuple[torch.Tensor, torch.Tensor]] = deque(maxlen=num_previous)
    for tokens in features:
        if tokens.ndim != 2 or len(tokens) != labels[0].numel():
            height, width = labels.shape[1:]
            raise ValueError(
                f'features [N, C] of each frame with N = {height} x {width} are wanted, got {list(tokens.shape)}'
            )
        tokens = F.normalize(tokens.float(), dim=-1).unflatten(0, labels.shape[1:])  # [H', W', C]
        if first is None:
            first = tokens, labels.to(tokens.device)
            continue
        result = _carried(tokens, [first, *previous], radius, topk, temperature)
        previous.append((tokens, result))
        yield result


def _check_range(name: str, value: int, least: int) -> None:
    if value < least:
        raise ValueError(f'{name}={value}: must be at least {least}')


def _fractions(labels: torch.Tensor) -> torch.Tensor:
    """Labels as float [K, H', W']."""
    labels = torch.as_tensor(labels)
    if labels.ndim == 2 and not labels.is_floating_point():
        labels = F.one_hot(labels.long()).movedim(-1, 0)
    if labels.ndim != 3:
        raise ValueError(
            f'first_labels are whole numbers [H, W] or fractions [K, H, W], got {labels.dtype} {list(labels.shape)}'
        )
    return labels.float()


def _carried(
    tokens: torch.Tensor, sources: list[tuple[torch.Tensor, torch.Tensor]], radius: int, topk: int, temperature: float
) -> torch.Tensor:
    """Labels [K, H', W'] of the tokens [H', W', C], by those of the sources."""
    height, width = tokens.shape[:2]
    keys = torch.stack([key for key, _ in sources])  # [S, H', W', C]
    values = torch.stack([value for _, value in sources]).movedim(1, -1)  # [S, H', W', K]
    radius = radius or max(height, width)
    columns = torch.arange(width, device=tokens.device)
    near = (columns[:, None] - columns).abs() <= radius  # [W', W']
    rows = []
    for row in range(height):  # only rows in reach are compared, which keeps memory small too
        reach = slice(max(row - radius, 0), row + radius + 1)
        similar = tokens[row] @ keys[:, reach].flatten(0, 2).T  # [W', S * R * W']
        weights = similar.div_(temperature).exp_().unflatten(1, (-1, width)).mul_(near[:, None]).flatten(1)
        least = weights.topk(min(topk, weights.shape[1]), dim=1).values[:, -1:]
        weights = weights.masked_fill_(weights < least, 0)
        weights /= weights.sum(dim=1, keepdim=True)
        rows.append(weights @ values[:, reach].flatten(0, 2))  # [W', K]
    return torch.stack(rows).movedim(-1, 0)


def propagate_labels(
    model: nn.Module, frames: torch.Tensor | Iterable[torch.Tensor], labels: torch.Tensor, **options: Any
) -> torch.Tensor:
    """Label every frame of a video, given the labels of its first frame.

    Args:
        model: A ViT of this package, for clips or for images.
        frames: uint8 [T, H, W, 3], or one frame [H, W, 3] after the other.
        labels: Of the first frame, uint8 [H, W]; 0 is usually the background.
        **options: As of `each_labeled`.

    Returns:
        uint8 [T, H, W]; the first are the given labels.

    Raises:
        TypeError, ValueError, IndexError, NotFiniteError: As `each_labeled`.
    """
    return torch.stack([_checked_labels(labels), *each_labeled(model, frames, labels, **options)])


def each_labeled(
    model: nn.Module,
    frames: torch.Tensor | Iterable[torch.Tensor],
    labels: torch.Tensor,
    *,
    short_side: int = SHORT_SIDE,
    whole_patches: bool = False,
    clips: bool = False,
    block: int = -1,
    norm: bool | None = None,
    **options: Any,
) -> Iterator[torch.Tensor]:
    """Label the frames of a video after the first, one after the other.

    Args:
        model: A ViT of this package. It sees frames at whatever size; its position embeddings are resampled.
        frames: uint8 [T, H, W, 3], or one frame [H, W, 3] after the other.
        labels: Of the first frame, uint8 [H, W].
        short_side: Of the frames as the model sees them, in pixels. The long side is cut to a multiple of 64, and what
            is left of a patch at the border is not seen, as published.
        whole_patches: Scale both sides to multiples of the patch instead, so that all is seen.
        clips: A video model sees the frames around each frame (8 before it to 7 after it, if it takes 16), and the
            tokens of the frame's own time step count. Otherwise it sees each frame repeated, and the mean over time
            counts, as published.
        block: Whose tokens, counted from 0 or from the end.
        norm: Whether the tokens go through the model's final norm; None: those of image encoders do, as published,
            those of video models do not, which could not be verified.
        **options: As of `propagate`.

    Yields:
        uint8 [H, W], on the CPU.

    Raises:
        TypeError: It is no model.
        IndexError: No such block.
        ValueError: The model has no patches, or takes images where `clips` are wanted; the labels are none, or of
            another size than the frames; or the frames differ in size.
        NotFiniteError: The tokens hold NaN or infinity.
    """
    vit, labels, frames = check_propagation(model, clips), _checked_labels(labels), iter(frames)
    norm = not takes_clips(vit) if norm is None else norm
    block, patch = checked_block(vit, block), vit.patch_embed.patch_size
    first = next(frames, None)
    if first is None:
        raise ValueError('no frames: the first one is that of the labels')
    first = torch.as_tensor(first)
    size: Size = (first.shape[0], first.shape[1])
    if labels.shape != size:
        raise ValueError(
            f'the labels have {labels.shape[1]} x {labels.shape[0]} pixels, the frames {size[1]} x {size[0]}; labels '
            f'are wanted for each pixel of the first frame'
        )
    scaled = _scaled_size(size, short_side, patch, whole_patches)
    grid = scaled[0] // patch[0], scaled[1] // patch[1]
    inputs = (_prepare(frame, size, scaled, patch) for frame in chain([first], frames))
    x = _clips(inputs, vit.num_frames) if clips else inputs
    known, numbers = labels.unique(return_inverse=True)  # of labels that are not there nothing is computed
    small = F.one_hot(nearest(numbers, grid), len(known)).movedim(-1, 0)
    for fractions in each_propagated((_tokens(vit, item, block, norm) for item in x), small, **options):
        yield known[to_label_map(fractions, patch, size).cpu().long()]


def to_label_map(fractions: torch.Tensor, patch: Size, size: Size) -> torch.Tensor:
    """The label of each pixel, as published: upsampled, each label scaled to its own 0 to 1, the highest taken.

    Args:
        fractions: [K, H', W'].
        patch: Pixels of a patch.
        size: Of the frame, to which the labels of the patches' pixels are scaled.

    Returns:
        uint8 [H, W].
    """
    scale = [float(side) for side in patch]
    maps = F.interpolate(fractions[None], scale_factor=scale, mode='bilinear', align_corners=False)[0]
    lowest, highest = maps.amin((1, 2), keepdim=True), maps.amax((1, 2), keepdim=True)
    # What is the same everywhere has no range: it is everywhere, or nowhere.
    maps = torch.where(highest > lowest, (maps - lowest) / (highest - lowest).clamp(min=1e-30), (maps > 0).float())
    return nearest(maps.argmax(dim=0).to(torch.uint8), size)


def nearest(labels: torch.Tensor, size: Size) -> torch.Tensor:
    """Labels [H, W] at another size, by the nearest pixel."""
    rows, columns = (
        ((torch.arange(new, dtype=torch.float64) + 0.5) * (old / new)).long().clamp(max=old - 1).to(labels.device)
        for old, new in zip(labels.shape, size, strict=True)
    )
    return labels[rows][:, columns]


def check_propagation(model: nn.Module, clips: bool = False) -> Any:
    """The model, as `checked_model` gives it.

    Raises:
        TypeError: It is no model.
        ValueError: It has no patch tokens, or takes images where `clips` are wanted.
    """
    vit = checked_model(model)
    if not isinstance(getattr(getattr(vit, 'patch_embed', None), 'patch_size', None), tuple):
        raise ValueError(f'this {name_of(vit)} has no patch tokens; take a ViT of this package (`videozoo list`)')
    if clips and not takes_clips(vit):
        raise ValueError(f'clips=True: this {name_of(vit)} takes images; leave it out')
    return vit


def _checked_labels(labels: torch.Tensor) -> torch.Tensor:
    labels = torch.as_tensor(labels)
    if labels.ndim != 2 or labels.is_floating_point() or labels.is_complex():
        raise ValueError(f'labels are whole numbers [H, W], got {labels.dtype} {list(labels.shape)}')
    if labels.numel() == 0 or labels.min() < 0 or labels.max() > 255:
        raise ValueError('labels are numbers from 0 to 255, as an indexed PNG has them')
    return labels.to('cpu', torch.uint8)


def _scaled_size(size: Size, short_side: int, patch: Size, whole_patches: bool) -> Size:
    least = max(*patch, 1 if whole_patches else _MULTIPLE)
    if short_side < least:
        raise ValueError(f'short_side={short_side}: must be at least {least}')
    multiples = patch if whole_patches else (_MULTIPLE, _MULTIPLE)
    height, width = size
    sides = (short_side * height / width, short_side) if height > width else (short_side, short_side * width / height)
    cut = tuple(int(side // multiple * multiple) for side, multiple in zip(sides, multiples, strict=True))
    if whole_patches:
        return cut[0], cut[1]
    return (cut[0], short_side) if height > width else (short_side, cut[1])


def _prepare(frame: torch.Tensor, size: Size, scaled: Size, patch: Size) -> torch.Tensor:
    """uint8 [H, W, 3] -> float [3, h, w], normalized, without what is left of a patch."""
    frame = torch.as_tensor(frame)
    if frame.dtype != torch.uint8 or tuple(frame.shape) != (*size, 3):
        raise ValueError(f'frames are uint8 {[*size, 3]} as the first one, got {frame.dtype} {list(frame.shape)}')
    x = frame.permute(2, 0, 1).float()
    if size != scaled:
        x = F.interpolate(x[None], scaled, mode='bilinear', align_corners=False)[0].round_()  # to bytes, as OpenCV
    x = x[:, : scaled[0] // patch[0] * patch[0], : scaled[1] // patch[1] * patch[1]]
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (_MEAN, _STD))
    return (x / 255 - mean) / std


def _clips(frames: Iterator[torch.Tensor], num_frames: int) -> Iterator[torch.Tensor]:
    """A clip [3, T, h, w] around each frame, which is at `num_frames // 2`; the ends are repeated."""
    window: deque[torch.Tensor] = deque(maxlen=num_frames)
    behind = num_frames - 1 - num_frames // 2
    for number, frame in enumerate(_last_repeated(frames, behind)):
        window.extend([frame] * (1 if window else num_frames))
        if number >= behind:
            yield torch.stack(list(window), dim=1)


def _last_repeated(frames: Iterator[torch.Tensor], times: int) -> Iterator[torch.Tensor]:
    frame = None
    for frame in frames:
        yield frame
    if frame is not None:
        yield from [frame] * times


def _tokens(vit: Any, x: torch.Tensor, block: int, norm: bool) -> torch.Tensor:
    """Tokens [N, C] of an image [3, h, w], or of the middle frame of a clip [3, T, h, w]."""
    placement = placement_of(vit)
    with evaluating(vit), _any_size(vit):
        maps = vit.forward_intermediates(
            x[None].to(**placement), indices=[block], norm=norm, intermediates_only=True, stop_early=True
        )[0][0]
    check_finite(maps, f'the patch tokens of block {block}', x, placement['dtype'])
    if x.ndim == 4:
        maps = maps[:, x.shape[1] // 2 // vit.tubelet_size]  # [C, T', H', W'] -> [C, H', W']
    return maps.flatten(1).T


@contextmanager
def _any_size(vit: Any) -> Iterator[None]:
    """Frames of any size are taken meanwhile."""
    before, vit.patch_embed.strict_img_size = vit.patch_embed.strict_img_size, False
    try:
        yield
    finally:
        vit.patch_embed.strict_img_size = before
