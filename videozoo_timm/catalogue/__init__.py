"""What is published: one record per checkpoint.

Everything that lists, names or locates a model is made from these records: timm's default configs, the entrypoints of
`hubconf.py`, `get_available_models()`, the commands and the README's table.

A published name reads `x_y_z`: for a video model its type, pretraining data and finetuning data, for an image encoder
its training method, training data and architecture. Its timm name is `architecture.tag`.

The models of humanlike-vits are a series, one rule instead of a line each (`humanlike.py`): `x_y_z` is architecture and
size, fraction of the video and seed, `vith14@476_0.01_3`. Its tag is `humanlike`, the size in pixels unless it is 224,
fraction and seed, with `_` for the point: `vit_h14_im.humanlike_476_0_01_3`. The same model finetuned, which its
publisher loads with `finetuned=True`, has a name of its own, since timm, torch.hub and the commands take names alone:
`vith14@476_0.01_3_in1k`, tag `humanlike_476_0_01_3_in1k`.

The file of an image MAE (the MAEs of silicon-menagerie, the pretrained models of humanlike-vits) holds its decoder too.
The published name means the encoder, as published. The whole has the same tag under the architecture `mae_...`:
`mae_say_vitl16` is `vit_l16_im.mae_say`, and `mae_l16_im.mae_say` whole.
"""

from . import humanlike as humanlike
from .checkpoints import ALL_ARCHITECTURES as ALL_ARCHITECTURES
from .checkpoints import ARCHITECTURES as ARCHITECTURES
from .checkpoints import CHECKPOINTS as CHECKPOINTS
from .checkpoints import IMAGE_ARCHITECTURES as IMAGE_ARCHITECTURES
from .checkpoints import IMAGENET_MEAN as IMAGENET_MEAN
from .checkpoints import IMAGENET_STD as IMAGENET_STD
from .checkpoints import SMALL_ARCHITECTURES as SMALL_ARCHITECTURES
from .checkpoints import SMALL_IMAGE_ARCHITECTURE as SMALL_IMAGE_ARCHITECTURE
from .checkpoints import SMALL_IMAGE_MAE as SMALL_IMAGE_MAE
from .checkpoints import VIDEO_MEAN as VIDEO_MEAN
from .checkpoints import VIDEO_STD as VIDEO_STD
from .checkpoints import WHOLE as WHOLE
from .checkpoints import Checkpoint as Checkpoint
from .checkpoints import preprocessing as preprocessing
from .checkpoints import takes_images as takes_images
from .digests import digests_of as digests_of
from .digests import pin as pin
from .generators import GENERATORS as GENERATORS
from .generators import GPT_SIZES as GPT_SIZES
from .generators import VQGAN_SIZES as VQGAN_SIZES
from .generators import Generator as Generator
from .generators import PackagedGenerator as PackagedGenerator
from .generators import find_generator as find_generator
from .generators import find_video_generator as find_video_generator
from .generators import video_generators as video_generators
from .lookup import available_models as available_models
from .lookup import find as find
from .lookup import finetuned_of as finetuned_of
from .lookup import matching as matching
from .lookup import packaged_as as packaged_as
from .lookup import stored_in as stored_in
from .lookup import whole_of as whole_of
from .zoos import CLASS_NAMES as CLASS_NAMES
from .zoos import CLASSES as CLASSES
from .zoos import DEFAULT_ZOO as DEFAULT_ZOO
from .zoos import MOTIONS as MOTIONS
from .zoos import PACKAGED as PACKAGED
from .zoos import PAPERS as PAPERS
from .zoos import ZOOS as ZOOS
