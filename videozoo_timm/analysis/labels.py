"""Names of classes, in the order of a model's head."""

import json
import os
import re

from torch import nn

from ..inference.checks import checked_model
from ..paths import as_path, not_found
from ..text import counted
from ..video.class_folders import class_names

__all__ = ['known_labels', 'read_labels']

_LARGEST_LABELS = 16 << 20  # bytes; a thousand times what a thousand names take


def read_labels(labels: str | os.PathLike, num_classes: int) -> list[str]:
    """Names of classes in the order of a model's head.

    Args:
        labels: A folder with one subfolder a class; a text file with one name a line; or a JSON file with a list of
            names, or with an object from names to numbers or from numbers to names.
        num_classes: Of the model.

    Raises:
        FileNotFoundError: No such file or folder.
        ValueError: It has another number of names, or is none of these.
    """
    path = as_path(labels)
    if path.is_dir():
        names = class_names(path)
    else:
        if not path.exists():
            raise not_found(path)
        if not path.is_file():  # opening a FIFO may never end
            raise ValueError(f'{path} is neither a file nor a folder')
        if path.stat().st_size > _LARGEST_LABELS:
            raise ValueError(
                f'{path} is larger than {_LARGEST_LABELS >> 20} MB, so it cannot be a list of names of classes'
            )
        try:
            text = path.read_text(encoding='utf-8')
            if path.suffix == '.json':
                names = _names_in(json.loads(text))
            else:
                names = [line.strip() for line in text.splitlines() if line.strip()]
        except (ValueError, RecursionError) as error:
            raise ValueError(f'{path} cannot be read as names of classes: {error}') from error
    if len(names) != num_classes:
        raise ValueError(
            f'{path} has {counted(len(names), "class name")}, the model has {counted(num_classes, "class")}'
        )
    return names


def _names_in(content):
    """Names in the order of their numbers, of what a JSON file holds."""
    if isinstance(content, dict):
        numbers = content
        if all(number.isdecimal() for number in content):
            if wrong := [name for name in content.values() if not _is_name(name)]:
                raise ValueError(f'{_shortly(wrong[0])} is no name')
            numbers = {name: number for number, name in content.items()}
        if wrong := [number for number in numbers.values() if not re.fullmatch('[0-9]{1,9}', str(number))]:
            raise ValueError(f'{_shortly(wrong[0])} is no number of a class')
        if sorted(map(int, numbers.values())) != list(range(len(content))):
            raise ValueError('its numbers do not run from 0 without gaps')
        content = sorted(numbers, key=lambda name: int(numbers[name]))
    if not isinstance(content, list):
        raise ValueError(f'{_shortly(content)} is neither a list nor an object')
    if wrong := [name for name in content if not _is_name(name)]:
        raise ValueError(f'{_shortly(wrong[0])} is no name')
    return list(map(str, content))


def _is_name(value):
    return isinstance(value, (str, int)) and not isinstance(value, bool)


def _shortly(value):
    return json.dumps(value)[:40]


def known_labels(model: nn.Module) -> list[str] | None:
    """The names of a model's classes if its configuration has them."""
    timm_model = checked_model(model)
    config = timm_model.pretrained_cfg
    names, descriptions = config.get('label_names'), config.get('label_descriptions') or {}
    if not names or len(names) != timm_model.num_classes:
        return None
    return [descriptions.get(name, name) for name in names]
