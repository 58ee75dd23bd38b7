"""Training on: the MAE on new video, the ViT on a task.

Each is imported from its own file:

    from videozoo_timm.training import Keeping, Schedule, make_accelerator
    from videozoo_timm.training.finetune import finetune
    from videozoo_timm.training.pretrain import pretrain

`train` is the loop of both, for a loss of your own.
"""

from typing import TYPE_CHECKING as _TYPE_CHECKING

from .._lazy import lazy_names as _lazy_names

if _TYPE_CHECKING:
    from .finetune import add_lora as add_lora
    from .finetune import few_shots as few_shots
    from .finetune import freeze_all_but_head as freeze_all_but_head
    from .log import read_log as read_log
    from .loop import Hook as Hook
    from .loop import make_accelerator as make_accelerator
    from .loop import train as train
    from .run_folder import Keeping as Keeping
    from .schedule import Schedule as Schedule
    from .stream import Stream as Stream

__all__ = [
    'Hook',
    'Keeping',
    'Schedule',
    'Stream',
    'add_lora',
    'few_shots',
    'freeze_all_but_head',
    'make_accelerator',
    'read_log',
    'train',
]

__getattr__, _ = _lazy_names(
    __name__,
    {
        'finetune': ('add_lora', 'few_shots', 'freeze_all_but_head'),
        'log': ('read_log',),
        'loop': ('Hook', 'make_accelerator', 'train'),
        'run_folder': ('Keeping',),
        'schedule': ('Schedule',),
        'stream': ('Stream',),
    },
)


def __dir__() -> list[str]:
    return list(__all__)
