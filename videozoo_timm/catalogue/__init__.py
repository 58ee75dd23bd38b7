"""What is published: one record per checkpoint.

Everything that lists, names or locates a model is made from these records: timm's default configs, the entrypoints of
`hubconf.py`, `get_available_models()`, the commands and the README's table.

A published name reads `x_y_z`: for a video model its type, pretraining data and finetuning data, for an image encoder
its training method, training data and architecture. Its timm name is `architecture.tag`.
"""

from .checkpoints import ALL_ARCHITECTURES as ALL_ARCHITECTURES
from .checkpoints import ARCHITECTURES as ARCHITECTURES
from .checkpoints import CHECKPOINTS as CHECKPOINTS
from .checkpoints import IMAGE_ARCHITECTURES as IMAGE_ARCHITECTURES
from .checkpoints import IMAGENET_MEAN as IMAGENET_MEAN
from .checkpoints import IMAGENET_STD as IMAGENET_STD
from .checkpoints import SMALL_ARCHITECTURES as SMALL_ARCHITECTURES
from .checkpoints import SMALL_IMAGE_ARCHITECTURE as SMALL_IMAGE_ARCHITECTURE
from .checkpoints import VIDEO_MEAN as VIDEO_MEAN
from .checkpoints import VIDEO_STD as VIDEO_STD
from .checkpoints import Checkpoint as Checkpoint
from .checkpoints import preprocessing as preprocessing
from .checkpoints import takes_images as takes_images
from .digests import digests_of as digests_of
from .digests import pin as pin
from .generators import GENERATORS as GENERATORS
from .generators import GPT_SIZES as GPT_SIZES
from .generators import VQGAN_SIZES as VQGAN_SIZES
from .generators import Generator as Generator
from .generators import find_generator as find_generator
from .lookup import available_models as available_models
from .lookup import find as find
from .lookup import packaged_as as packaged_as
from .lookup import stored_in as stored_in
from .zoos import CLASS_NAMES as CLASS_NAMES
from .zoos import CLASSES as CLASSES
from .zoos import DEFAULT_ZOO as DEFAULT_ZOO
from .zoos import MOTIONS as MOTIONS
from .zoos import PACKAGED as PACKAGED
from .zoos import PAPERS as PAPERS
from .zoos import ZOOS as ZOOS
