"""Features in the formats of other toolboxes."""

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import UserError
from ..files import atomic_write
from .feature_reading import FeatureFile
from .feature_tables import save_table
from .matching import match_listed
from .similarity import dissimilarities, library

__all__ = ['FORMATS', 'export', 'in_order']

FORMATS = dict(rsatoolbox='.hdf5', mat='.mat', hdf5='.h5', csv='.csv', devbench='.npy', netcdf='.nc')  # and endings
_LARGEST_MAT = 1 << 31  # bytes of an array in a MATLAB 5 file
_MAP = ('frame', 'y', 'x')  # of patch tokens
_SECONDS = ('time', 'start', 'end', 'duration', 'padded', 'damaged', 'clock_offset')


def in_order(file: FeatureFile, stimuli: Sequence[str]) -> FeatureFile:
    """The same features with the rows of a list of stimuli, in its order and under its names.

    Args:
        file: With one row for each stimulus.
        stimuli: Names, matched as `match_listed` does.

    Raises:
        ValueError: A stimulus is missing, or has several rows.
    """
    ours, theirs = match_listed(file.paths, file.ids, stimuli)
    place = {name: row for row, name in enumerate(ours)}
    if missing := [name for name, key in zip(stimuli, theirs, strict=True) if key not in place]:
        more = f' and {len(missing) - 1} more' if len(missing) > 1 else ''
        raise ValueError(f'{file.name} has no features of {missing[0]}{more}')
    if len(place) < len(ours):
        raise ValueError(f'{file.name} has several rows of a stimulus, a list of stimuli is for one row of each')
    rows = np.array([place[key] for key in theirs])
    columns = {name: column[rows] for name, column in file.columns.items()}
    ids = None if file.ids is None else [file.ids[row] for row in rows]
    return replace(file, paths=list(stimuli), columns=columns, _read=lambda: file.array()[rows], ids=ids)


def of_block(file: FeatureFile, block: int) -> FeatureFile:
    """The features of one block alone, [R, C].

    Raises:
        ValueError: They are not in the file.
    """
    if file.blocks is None or block not in file.blocks:
        there = 'the model output alone' if file.blocks is None else f'the blocks {", ".join(map(str, file.blocks))}'
        raise ValueError(f'{file.name} has no features of block {block}: it has {there}')
    place = file.blocks.index(block)
    about = dict(file.about, block=str(block))
    return replace(file, blocks=None, about=about, _read=lambda: file.array()[:, place])


def export(
    file: FeatureFile, to: str, out: str | os.PathLike[str], *, dissimilarity: str = 'correlation'
) -> list[Path]:
    """Write features in the format of another toolbox, whole or not at all.

    * 'rsatoolbox': a `Dataset` (a channel for each feature of each block), and its `RDMs` (one a block) beside it.
    * 'mat': MATLAB 5: `features`, `stimulus` (a cell array), `time`, `block` and others.
    * 'hdf5': the same names as datasets; the model and the settings are attributes.
    * 'csv': a row for each clip and block, as `Embeddings.save` writes it.
    * 'devbench': `.npy` [N, C] of one block.
    * 'netcdf': an xarray `Dataset` with the dimensions row, block and feature.

    Args:
        file: What `open_features` gives.
        to: One of `FORMATS`.
        out: File to write.
        dissimilarity: Of the RDMs, one of 'correlation', 'cosine' and 'euclidean'.

    Returns:
        The files that were written.

    Raises:
        ValueError: Another format; or features that it cannot hold, with the way out.
        ImportError: The library of the format is not installed.
    """
    if to not in FORMATS:
        raise ValueError(f'to={to!r}: must be one of {list(FORMATS)}')
    write: Callable[..., list[Path]] = dict(
        rsatoolbox=_rsatoolbox, mat=_mat, hdf5=_hdf5, csv=_csv, devbench=_devbench, netcdf=_netcdf
    )[to]
    options = dict(dissimilarity=dissimilarity) if to == 'rsatoolbox' else {}
    return write(file, Path(out), **options)


def _library(name: str, extra: str) -> Any:
    try:
        return import_module(name)
    except ImportError as error:
        raise ImportError(f"this format needs {name}: pip install 'videozoo-timm[{extra}]'") from error


def _of_rows(file: FeatureFile) -> dict[str, np.ndarray]:
    return {name: file.columns[name] for name in _SECONDS if name in file.columns}


def _names_of(file: FeatureFile, text: Callable[[str], str] = str) -> dict[str, list[str]]:
    """What tells the stimulus of each row: its path and, in somebody else's list, its identifier."""
    names = dict(stimulus=file.paths) if file.ids is None else dict(stimulus=file.paths, id=file.ids)
    return {key: list(map(text, values)) for key, values in names.items()}


def _rsatoolbox(file: FeatureFile, out: Path, dissimilarity: str) -> list[Path]:
    data, rdm = library('rsatoolbox.data'), library('rsatoolbox.rdm')
    features, blocks = file.features(), file.blocks or [-1]
    rows, number, width = features.shape
    names = {key: np.array(values) for key, values in _names_of(file, _ascii).items()}  # it stores text in ASCII
    described = dict(names, **_of_rows(file))
    about = dict(model=_ascii(file.model))
    channels = dict(block=np.repeat(blocks, width), feature=np.tile(np.arange(width), number))
    dataset = data.Dataset(
        features.reshape(rows, -1), descriptors=about, obs_descriptors=described, channel_descriptors=channels
    )
    distances = np.stack([dissimilarities(features[:, k], dissimilarity) for k in range(number)])
    rdms = rdm.RDMs(
        distances.astype(np.float64),
        dissimilarity_measure=dissimilarity,
        descriptors=about,
        rdm_descriptors=dict(block=np.array(blocks)),
        pattern_descriptors=described,
    )
    beside = out.with_name(f'{out.stem}_rdms{out.suffix}')
    for target, content in ((out, dataset), (beside, rdms)):
        with atomic_write(target) as partial:
            content.save(str(partial), 'hdf5')
    return [out, beside]


def _ascii(text: str) -> str:
    return text.encode('ascii', 'backslashreplace').decode()


def _mat(file: FeatureFile, out: Path) -> list[Path]:
    savemat, features = _library('scipy.io', 'compare').savemat, file.array()
    if features.nbytes >= _LARGEST_MAT:
        raise UserError(
            '{}: {:.1f} GB of features are more than a .mat holds (2 GB): take {to}, which MATLAB reads by h5read',
            out,
            features.nbytes / 1e9,
            to='hdf5',
        )
    content: dict[str, Any] = dict(features=features, model=file.model)
    content |= {key: np.array(values, dtype=object)[:, None] for key, values in _names_of(file).items()}
    content |= {name: column[:, None] for name, column in _of_rows(file).items()}
    content |= {} if file.blocks is None else dict(block=np.array(file.blocks))
    with atomic_write(out, features.nbytes) as partial:
        savemat(partial, {**content, 'settings': str(file.about.get('settings', ''))}, appendmat=False)
        with open(partial, 'r+b') as header:  # SciPy writes the time there, by which equal files would differ
            header.write(b'MATLAB 5.0 MAT-file, features of videozoo-timm'.ljust(116))
    return [out]


def _hdf5(file: FeatureFile, out: Path) -> list[Path]:
    h5py, features = _library('h5py', 'compare'), file.array()
    with atomic_write(out, features.nbytes) as partial, h5py.File(partial, 'w') as target:
        target['features'] = features
        for name, values in _names_of(file, _utf8).items():
            target.create_dataset(name, data=values, dtype=h5py.string_dtype())
        for name, column in _of_rows(file).items():
            target[name] = column
        if file.blocks is not None:
            target['block'] = np.array(file.blocks)
        target.attrs.update({key: str(value) for key, value in file.about.items()})
    return [out]


def _utf8(text: str) -> str:
    return text.encode('utf-8', 'backslashreplace').decode()


def _csv(file: FeatureFile, out: Path) -> list[Path]:
    content = dict(file.about, paths=list(dict.fromkeys(file.paths)))
    save_table(out, file.array(), file.paths, _of_rows(file), file.blocks, content, ids=file.ids)
    return [out, out.with_name(f'{out.name}.json')]


def _devbench(file: FeatureFile, out: Path) -> list[Path]:
    if file.blocks is not None and len(file.blocks) > 1:
        raise UserError(
            '{}: DevBench takes the features of one block, not of {}: {block}', out, len(file.blocks), block=None
        )
    features = np.ascontiguousarray(file.features()[:, 0])
    with atomic_write(out, features.nbytes) as partial:
        np.save(partial, features)
    return [out]


def _netcdf(file: FeatureFile, out: Path) -> list[Path]:
    xarray, features = _library('xarray', 'netcdf'), file.array()
    _library('h5netcdf', 'netcdf')
    leading = ['row'] if file.blocks is None else ['row', 'block']
    tokens = features.ndim - len(leading) - 1
    names = _names_of(file, _utf8)
    coordinates: dict[str, Any] = {key: ('row', np.array(values, dtype=object)) for key, values in names.items()}
    coordinates |= {name: ('row', column) for name, column in _of_rows(file).items()}
    coordinates |= {} if file.blocks is None else dict(block=np.array(file.blocks))
    dims = [*leading, *_MAP[len(_MAP) - tokens :], 'feature']
    about = {key: value if isinstance(value, str) else json.dumps(value) for key, value in file.about.items()}
    dataset = xarray.Dataset(dict(features=(dims, features)), coords=coordinates, attrs=about)
    with atomic_write(out, features.nbytes) as partial:
        dataset.to_netcdf(partial, engine='h5netcdf')
    return [out]
