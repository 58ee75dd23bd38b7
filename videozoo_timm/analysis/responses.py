"""Responses of brains to stimuli: a row a stimulus (or a volume, a sample), a column a voxel or channel."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import UserError
from ..files import atomic_write
from ..text import counted
from .behavior import _file, _table
from .feature_reading import FeatureFile
from .matching import TOLERANCE

__all__ = ['Responses', 'read_ceiling', 'read_responses', 'save_map']

_IMAGES = ('.nii', '.nii.gz')
_APART = 0.01  # of a voxel's side, which is more than headers round


@dataclass(repr=False)
class Responses:
    """Responses to stimuli.

    Attributes:
        values: float64 [R, V].
        channels: Names of the V voxels (their indices, as in '12,40,7') or channels.
        rows: Which stimulus and time each row is of, to be matched with those of features.
        image: The NIfTI image that they are of, and which of its voxels, [X, Y, Z]; None of other files.
    """

    values: np.ndarray
    channels: list[str]
    rows: FeatureFile
    image: tuple[Any, np.ndarray] | None = None

    def __repr__(self) -> str:
        return f'Responses({counted(self.values.shape[0], "row")}, {counted(self.values.shape[1], "channel")})'


def _is_nifti(path: str | os.PathLike[str]) -> bool:
    """Whether a name is that of a NIfTI image."""
    return os.fspath(path).endswith(_IMAGES)


def _nibabel() -> Any:
    try:
        return import_module('nibabel')
    except ImportError as error:
        raise ImportError("NIfTI images need nibabel: pip install 'videozoo-timm[brain]'") from error


def read_responses(
    path: str | os.PathLike[str],
    like: FeatureFile,
    *,
    stimuli: Sequence[str] = (),
    mask: str | os.PathLike[str] | None = None,
) -> Responses:
    """Responses from a file.

    Args:
        path: `.npy` [R, V]; `.csv` with a header, whose first column names the stimulus, a column `time` (if there is
            one) the seconds, and each other column is a channel; or a NIfTI image [X, Y, Z, R].
        like: Features. Rows without names are those of its rows, in their order, if there are as many.
        stimuli: Names of the rows of an `.npy` or a NIfTI image.
        mask: NIfTI image of the voxels to take, not 0, of the same grid; without it those that vary.

    Raises:
        FileNotFoundError: No such file.
        ValueError: It is none of these, has NaN, two rows of one stimulus and time, or rows that nothing tells the
            stimuli of; or the mask's voxels have other places.
        ImportError: A NIfTI image without nibabel.
    """
    source, image = _file(path), None
    if source.suffix == '.csv':
        header, *rows = _table(source)
        chosen = [k for k in range(1, len(header)) if header[k] != 'time']
        try:
            values = np.array([[row[k] for k in chosen] for row in rows], np.float64)
            times = np.array([row[header.index('time')] if 'time' in header else 0 for row in rows], np.float64)
        except ValueError as error:
            raise ValueError(f'{source}: {error}') from error
        names = [row[0] for row in rows]
        named = FeatureFile(source.name, names, dict(time=times), None, {}, lambda: values, names)
        return _checked(source, Responses(values, [header[k] for k in chosen], named))
    if _is_nifti(source):
        values, channels, image = _voxels(source, mask)
    elif source.suffix == '.npy':
        values = _array(source)
        if values.ndim != 2:
            raise ValueError(f'{source}: an array of the shape {values.shape} is not [rows, channels]')
        channels = list(map(str, range(values.shape[1])))
    else:
        raise ValueError(f'{source}: responses are read from .csv, .npy, .nii and .nii.gz')
    paths, times = (list(stimuli), np.zeros(len(stimuli))) if stimuli else (like.paths, like.time)
    ids = paths if stimuli else like.ids
    if len(paths) != len(values):
        whose = 'the list of stimuli' if stimuli else like.name
        raise UserError(
            '{} has {} rows, {} has {}: {stimuli} names a file with the stimulus of each row',
            source,
            len(values),
            whose,
            len(paths),
            stimuli=None,
        )
    named = FeatureFile(source.name, paths, dict(time=times), None, {}, lambda: values, ids)
    return _checked(source, Responses(values, channels, named, image))


def _array(source: Path) -> np.ndarray:
    try:
        return np.asarray(np.load(source), np.float64)
    except ValueError as error:
        raise ValueError(f'{source} cannot be read: {error}') from error


def _load(source: Path) -> Any:
    nibabel = _nibabel()
    try:
        return nibabel.load(source)
    except nibabel.filebasedimages.ImageFileError as error:
        raise ValueError(f'{source} is no NIfTI image: {error}') from error


def _voxels(source: Path, mask: str | os.PathLike[str] | None) -> tuple[np.ndarray, list[str], tuple[Any, np.ndarray]]:
    image = _load(source)
    if len(image.shape) != 4:
        raise ValueError(f'{source}: an image of the shape {image.shape} is not [x, y, z, rows]')
    volumes = np.asanyarray(image.dataobj)
    if mask is None:
        missing = ~np.isfinite(volumes)
        # A voxel that lacks some rows is no background: `_checked` tells of it.
        taken = np.where(missing.any(axis=3), ~missing.all(axis=3), volumes.max(axis=3) > volumes.min(axis=3))
    else:
        own = _load(_file(mask))
        taken = np.asanyarray(own.dataobj) != 0
        if taken.shape != volumes.shape[:3]:
            raise ValueError(f'{mask} has the shape {taken.shape}, {source} has {volumes.shape[:3]}')
        _check_place(mask, own, source, image)
    names = [','.join(map(str, place)) for place in np.argwhere(taken)]
    return np.asarray(volumes[taken], np.float64).T, names, (image, taken)


def _check_place(path: str | os.PathLike[str], own: Any, source: str | os.PathLike[str], image: Any) -> None:
    """Refuse an image whose voxels are not where those of another one of the same shape are."""
    corners = np.array(list(np.ndindex(2, 2, 2))) * (np.array(image.shape[:3]) - 1)  # [8, 3]
    places = [corners @ affine[:3, :3].T + affine[:3, 3] for affine in (own.affine, image.affine)]
    apart = float(np.linalg.norm(places[0] - places[1], axis=1).max())
    if not apart <= _APART * np.linalg.norm(image.affine[:3, :3], axis=0).min():
        axes = [''.join(map(str, _nibabel().aff2axcodes(affine))) for affine in (own.affine, image.affine)]
        told = f' (its axes are {axes[0]}, the others {axes[1]})' if axes[0] != axes[1] else ''
        raise ValueError(
            f'the voxels of {path} lie up to {apart:.3g} mm from those of {source}, as the affines differ{told}: '
            f'resample it to that image, as nilearn.image.resample_to_img does'
        )


def _checked(source: Path, responses: Responses) -> Responses:
    names, times = responses.rows.ids or responses.rows.paths, responses.rows.time.tolist()
    for (name, time, row), (other, later, second) in pairwise(
        sorted(zip(names, times, range(len(names)), strict=True))
    ):
        if name == other and later - time <= TOLERANCE:
            raise ValueError(
                f'{source}: rows {row + 1} and {second + 1} are both of {name} at {time:.2f} s: take the mean of the '
                f'rows of a stimulus'
            )
    if not responses.channels:
        raise ValueError(f'{source} holds no channels that vary')
    if wrong := np.argwhere(~np.isfinite(responses.values)).tolist():
        row, channel = wrong[0]
        raise ValueError(
            f'{source}: {len(wrong)} values are missing (NaN) or infinite, the first in row {row}, channel '
            f'{responses.channels[channel]}'
        )
    return responses


def read_ceiling(path: str | os.PathLike[str], responses: Responses) -> np.ndarray:
    """The highest correlation that a model can reach in each voxel or channel, [V].

    Args:
        path: `.npy` [V], `.csv` with the header of the responses and one row, or a NIfTI image [X, Y, Z].
        responses: What it is the ceiling of.

    Raises:
        ValueError: It is not of these voxels or channels, its voxels have other places, or it is not within 0 and 1.
    """
    source = _file(path)
    if _is_nifti(source) and responses.image is not None:
        own, (image, taken) = _load(source), responses.image
        volume = np.asanyarray(own.dataobj)
        if volume.shape == taken.shape:
            _check_place(source, own, responses.rows.name, image)
        ceiling = volume[taken] if volume.shape == taken.shape else volume.reshape(-1)
    elif source.suffix == '.csv':
        header, *rows = _table(source)
        if len(rows) > 1:
            raise ValueError(f'{source} has {len(rows)} rows: a noise ceiling is one row under the header')
        named = dict(zip(header, rows[0], strict=True))
        missing = [name for name in responses.channels if name not in named]
        if missing:
            raise ValueError(f'{source} has no noise ceiling of the channel {missing[0]}')
        ceiling = np.array([named[name] for name in responses.channels], np.float64)
    else:
        ceiling = _array(source)
    if ceiling.shape != (len(responses.channels),):
        raise ValueError(
            f'{source} holds {counted(ceiling.size, "noise ceiling")} of {counted(len(responses.channels), "channel")}'
        )
    if not ((ceiling >= 0) & (ceiling <= 1)).all():
        raise ValueError(f'{source}: a noise ceiling is a correlation from 0 to 1, in its channels are others')
    return np.asarray(ceiling, np.float64)


def save_map(values: np.ndarray, responses: Responses, path: Path) -> None:
    """Write values [V] of voxels as a NIfTI image like that of the responses, NaN outside of them; whole or not."""
    if responses.image is None:
        raise ValueError('these responses are not of a NIfTI image')
    image, taken = responses.image
    volume = np.full(taken.shape, np.nan, np.float32)
    volume[taken] = values
    with atomic_write(path) as partial:
        _nibabel().Nifti1Image(volume, image.affine).to_filename(partial)
