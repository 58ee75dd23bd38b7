"""From video files to the clips that the models take: finding, sampling, resizing, cropping, normalizing."""

from .checks import VideoError
from .class_folders import ClassFolders, class_folders
from .finding import IMAGE_EXTENSIONS, VIDEO_EXTENSIONS, find_media, find_videos, is_image
from .images import read_image
from .pixels import AS_PLAYED, Pixels, pyav_version
from .reading import Clip, VideoInfo, probe, read_clip, read_clips
from .sampling import COMPLETION, RECOGNITION, Sampling, centered_starts, centred_starts, seed_of
from .times import Times
from .transforms import Augmentation, augment_clip, denormalize, prepare_clip
from .views import ALIGNMENTS, Failure, Job, View, Views, failure_of, read_views
from .windows import Steps, Windows, sliding
from .workers import IN_THIS_PROCESS, Reading, load_views

__all__ = [
    'ALIGNMENTS',
    'AS_PLAYED',
    'COMPLETION',
    'IMAGE_EXTENSIONS',
    'IN_THIS_PROCESS',
    'RECOGNITION',
    'VIDEO_EXTENSIONS',
    'Augmentation',
    'ClassFolders',
    'Clip',
    'Failure',
    'Job',
    'Pixels',
    'Reading',
    'Sampling',
    'Steps',
    'Times',
    'VideoError',
    'VideoInfo',
    'View',
    'Views',
    'Windows',
    'augment_clip',
    'centered_starts',
    'centred_starts',
    'class_folders',
    'denormalize',
    'failure_of',
    'find_media',
    'find_videos',
    'is_image',
    'load_views',
    'prepare_clip',
    'probe',
    'pyav_version',
    'read_clip',
    'read_clips',
    'read_image',
    'read_views',
    'seed_of',
    'sliding',
]


def __dir__() -> list[str]:
    return list(__all__)
