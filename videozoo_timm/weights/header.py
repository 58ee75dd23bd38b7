"""The header of a .safetensors file: untrusted data, checked before use."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..text import printable

# Names in a file -> names of PyTorch.
_DTYPES = {
    'F64': 'float64',
    'F32': 'float32',
    'F16': 'float16',
    'BF16': 'bfloat16',
    'I64': 'int64',
    'I32': 'int32',
    'I16': 'int16',
    'I8': 'int8',
    'U64': 'uint64',
    'U32': 'uint32',
    'U16': 'uint16',
    'U8': 'uint8',
    'BOOL': 'bool',
    'C64': 'complex64',
    'F8_E4M3': 'float8_e4m3fn',
    'F8_E5M2': 'float8_e5m2',
    'F8_E8M0': 'float8_e8m0fnu',
    'F8_E4M3FNUZ': 'float8_e4m3fnuz',
    'F8_E5M2FNUZ': 'float8_e5m2fnuz',
}
LARGEST = 16 << 20  # bytes of a header, enough for 100,000 tensors; that of `mae_h14_st` has 45,000
INTERPOLATIONS = ('nearest', 'bilinear', 'bicubic', 'box', 'hamming', 'lanczos', 'pil-bilinear', 'random')
_LARGEST_SIDE = 1 << 12  # pixels
_MOST_LABELS, _LONGEST = 1_000_000, 1000  # names of classes; characters of a text


def torch_dtypes() -> dict[str, Any]:
    """Names in a file -> dtypes, as far as this PyTorch has them."""
    import torch

    return {name: getattr(torch, dtype) for name, dtype in _DTYPES.items() if hasattr(torch, dtype)}


def parse_header(metadata: Mapping[str, str], path: Path | str) -> dict[str, Any]:
    """Parse the metadata of a safetensors file, and check the fields that this package knows.

    Args:
        metadata: Text by name, as in the file.
        path: The file, for errors.

    Raises:
        ValueError: A field is invalid; the message has its value.
    """
    header: dict[str, Any] = dict(metadata)
    for field in ('input_size', 'mean', 'std', 'label_names'):
        if field in header:
            try:
                value = json.loads(header[field])
            except (ValueError, RecursionError):
                value = None  # what it is instead is shown as it stands there
            if not isinstance(value, list):
                raise _refusal(path, field, header[field])
            header[field] = tuple(value)
    for field in ('config', 'hyper_parameters'):
        if field in header:
            try:
                header[field] = json.loads(header[field])
            except (ValueError, RecursionError):
                raise _refusal(path, field, header[field]) from None
    check_fields(header, path, metadata)
    return header


def check_fields(fields: Mapping[str, Any], origin: Path | str, shown: Mapping[str, Any] | None = None) -> None:
    """Refuse invalid values in a header or in the configuration of a model; None and absent fields are valid.

    Args:
        fields: Values by name; fields that this package does not know are ignored.
        origin: Where they are from, for errors.
        shown: The values as in the file, for errors.

    Raises:
        ValueError: A field is invalid; the message has its value.
    """
    for field, value in fields.items():
        if field in _FIELDS and value is not None and not _FIELDS[field][0](value):
            raise _refusal(origin, field, (shown or fields)[field])


def _refusal(origin: Path | str, field: str, value: Any) -> ValueError:
    return ValueError(
        f'{origin}: what it says of itself is invalid: {field} is {printable(value, 80)}, must be {_FIELDS[field][1]}'
    )


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= _LONGEST


def _is_count(value: Any, least: int, most: int) -> bool:
    return type(value) is int and least <= value <= most


def _are_numbers(values: Any, least: float, most: float) -> bool:
    return (
        isinstance(values, (list, tuple))
        and 1 <= len(values) <= 64
        and all(type(value) in (int, float) and least <= value <= most for value in values)
    )  # not-a-number is in no range


def _are_labels(values: Any) -> bool:
    return isinstance(values, (list, tuple)) and len(values) <= _MOST_LABELS and all(map(_is_text, values))


def _is_size(value: Any) -> bool:
    return (
        isinstance(value, (list, tuple))
        and len(value) == 3
        and all(_is_count(side, 1, _LARGEST_SIDE) for side in value)
    )


_TEXT = (_is_text, f'text of at most {_LONGEST} characters')
_FIELDS = {  # what a field must be: the test of it, and the words for it
    **dict.fromkeys(('name', 'zoo', 'architecture', 'source', 'source_sha256'), _TEXT),
    'input_size': (_is_size, f'channels, height and width, three whole numbers from 1 to {_LARGEST_SIDE}'),
    'mean': (lambda value: _are_numbers(value, -1e6, 1e6), 'a finite number for each channel'),
    'std': (lambda value: _are_numbers(value, 1e-6, 1e6), 'a finite number above 0 for each channel'),
    'interpolation': (lambda value: value in INTERPOLATIONS, f'one of {", ".join(INTERPOLATIONS)}'),
    'label_names': (_are_labels, 'a list of texts, the names of the classes'),
    'num_classes': (lambda value: _is_count(value, 0, _MOST_LABELS), f'a whole number from 0 to {_MOST_LABELS}'),
    **dict.fromkeys(
        ('config', 'hyper_parameters'), (lambda value: isinstance(value, dict), 'settings by name, in JSON')
    ),
    'crop_pct': (lambda value: _are_numbers([value], 0.01, 10), 'a number from 0.01 to 10'),
}
