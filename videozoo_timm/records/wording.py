"""What the sentences of several commands tell: the stimuli, how they were taken, the block, the seed."""

from collections.abc import Mapping
from typing import Any

from ..text import counted

UNKNOWN = 'the stimuli'


def inputs_of(record: Mapping[str, Any], *names: str) -> str:
    """The files that were read, by their numbers; synthetic ones by name."""
    parts = []
    for entry in stimuli_of(record):
        path = entry.get('path')
        if entry.get('listed') or (names and path not in names):
            continue
        if entry.get('drawn'):
            parts.append(f'the synthetic videos {path}')
        else:
            parts.append(f'{counted(entry.get("files"), "file")} ({name_of(path)})')
    return ' and '.join(parts) if parts else UNKNOWN


def file_of(record: Mapping[str, Any], path: str) -> str:
    """A table that was read, by its name; of a folder its files."""
    one = any(entry.get('path') == path and entry.get('files') == 1 for entry in record.get('inputs', ()))
    return name_of(path) if one else inputs_of(record, path)


def name_of(path: Any) -> str:
    """The last part of a path."""
    return str(path).replace('\\', '/').rstrip('/').rpartition('/')[2] or str(path)


def stimuli_of(record: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Inputs that are neither weights nor tables."""
    others = ('weights', 'gpt', 'vqgan', 'tokenizer', 'at', 'manifest', 'labels', 'mask-file', 'scores')
    paths = {record['options'].get(name) for name in others}
    return [entry for entry in record.get('inputs', ()) if entry.get('listed') or entry.get('path') not in paths]


def are_images(record: Mapping[str, Any]) -> bool:
    """Whether all stimuli are images."""
    stimuli = stimuli_of(record)
    return bool(stimuli) and all(entry.get('images') for entry in stimuli)


def sampling_of(record: Mapping[str, Any], windows: bool = False) -> str:
    """How the frames of a clip (of `windows`, which the text tells of, a window) are taken and prepared."""
    settings = record.get('settings', {})
    views = settings.get('training_views') or settings.get('views')
    if not isinstance(views, dict):
        return ''
    size, sampling = views.get('size'), views.get('sampling') or {}
    frames, span = sampling.get('num_frames'), sampling.get('span')
    parts = []
    if isinstance(frames, int) and frames > 1 and are_images(record):
        parts.append(f'Each image was repeated as the {frames} frames of a clip')
    elif isinstance(frames, int) and frames > 1 and span and not windows:
        lasting = f'{span} frames at 30 per second ({span / 30:.2f} s)'
        parts.append(f'A clip has {frames} frames, spread evenly over {lasting}')
    if views.get('whole'):
        parts.append(f'frames were scaled to a short side of {size} pixels and not cropped')
    elif size:
        kind, short = views.get('interpolation'), views.get('short_side') or size + 32
        training = views.get('augmentation') is not None
        crop = 'cropped at random' if training else 'cropped at the center'
        parts.append(
            f'frames were {crop} to {size} x {size} pixels'
            + ('' if training else f' after scaling the short side to {short} pixels ({kind})')
        )
    text = '; '.join(parts)
    order = {'reversed': 'in reversed order', 'static': 'all replaced by the middle one'}
    if told := str(record['options'].get('frames') or ''):
        ordered = order.get(told, f'in random order ({told})')
        text += f'; as a control for time, the frames of each {"window" if windows else "clip"} were {ordered}'
    if record['options'].get('color') == 'published':
        text += '; colors were decoded as in the published pipeline'
    return f'{text[:1].upper()}{text[1:]}.' if text else ''


def block_of(record: Mapping[str, Any]) -> str:
    """A block, and how many there are."""
    block = record.get('settings', {}).get('block', record['options'].get('block'))
    number = next((model.get('blocks') for model in record.get('models', ())), None)
    if number is None:
        return 'the last block' if block in (None, -1) else f'block {block} (counted from 0)'
    block = (-1 if block is None else block) % number
    return f'the last of {number} blocks' if block == number - 1 else f'block {block} (counted from 0, of {number})'


def seed_of(options: Mapping[str, Any]) -> str:
    """The random seed in brackets, if there is one."""
    return '' if options.get('seed') is None else f' (random seed {options["seed"]})'
