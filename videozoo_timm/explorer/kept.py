"""What was computed and may be asked for again, up to a number of bytes."""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any

import torch

__all__ = ['Kept']


class Kept:
    """Keeps what was used last.

    Args:
        most: Bytes of all tensors.
    """

    def __init__(self, most: int = 256 << 20) -> None:
        self.most = most
        self._held: OrderedDict[Hashable, Any] = OrderedDict()

    def __len__(self) -> int:
        return len(self._held)

    @property
    def num_bytes(self) -> int:
        """Bytes of what is kept."""
        return sum(map(_bytes_of, self._held.values()))

    def get(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """What is kept under a key, or else what `make` makes, which is kept from then on."""
        if key in self._held:
            self._held.move_to_end(key)
            return self._held[key]
        value = self._held[key] = make()
        while len(self._held) > 1 and self.num_bytes > self.most:
            self._held.popitem(last=False)
        return value

    def share(self, other: 'Kept') -> None:
        """Take over what another one keeps."""
        for key, value in other._held.items():
            self.get(key, lambda value=value: value)

    def clear(self) -> None:
        """Forget everything."""
        self._held.clear()


def _bytes_of(value: Any, depth: int = 3) -> int:
    """Of the tensors in a result; a result may know its model, which is not counted."""
    if isinstance(value, torch.Tensor):
        return value.nbytes
    if depth == 0 or isinstance(value, torch.nn.Module):
        return 0
    parts = value if isinstance(value, (list, tuple)) else vars(value).values() if hasattr(value, '__dict__') else ()
    return sum(_bytes_of(part, depth - 1) for part in parts)
