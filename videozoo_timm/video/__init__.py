"""From video files to the clips that the models take: finding, sampling, resizing, cropping, normalising."""
from .checks import VideoError
from .finding import IMAGE_EXTENSIONS, VIDEO_EXTENSIONS, find_media, find_videos, is_image
from .images import read_image
from .reading import Clip, VideoInfo, probe, read_clip, read_clips
from .sampling import COMPLETION, RECOGNITION, Sampling, centred_starts
from .transforms import Augmentation, augment_clip, denormalize, prepare_clip
from .views import ALIGNMENTS, Failure, Job, View, Views, failure_of, read_views
from .workers import load_views

__all__ = [
    'ALIGNMENTS',
    'COMPLETION',
    'IMAGE_EXTENSIONS',
    'RECOGNITION',
    'VIDEO_EXTENSIONS',
    'Augmentation',
    'Clip',
    'Failure',
    'Job',
    'Sampling',
    'VideoError',
    'VideoInfo',
    'View',
    'Views',
    'augment_clip',
    'centred_starts',
    'denormalize',
    'failure_of',
    'find_media',
    'find_videos',
    'is_image',
    'load_views',
    'prepare_clip',
    'probe',
    'read_clip',
    'read_clips',
    'read_image',
    'read_views',
]


def __dir__() -> list[str]:
    return list(__all__)
