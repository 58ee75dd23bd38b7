"""What a model makes of videos: what it fills in, where it looks, what it represents, how well it recognizes.

One call each:

    from videozoo_timm.analysis import attend, complete, embed, evaluate, pca, predict, probe, surprise
"""

from typing import TYPE_CHECKING as _TYPE_CHECKING

from .._lazy import lazy_names as _lazy_names

if _TYPE_CHECKING:
    from .attention import AttentionMaps as AttentionMaps
    from .attention import attend as attend
    from .attention import keep_fraction as keep_fraction
    from .attention import strongest_head as strongest_head
    from .completion import Completion as Completion
    from .completion import box_mask as box_mask
    from .completion import complete as complete
    from .completion import read_mask as read_mask
    from .embedding import embed as embed
    from .evaluation import ClassFolders as ClassFolders
    from .evaluation import Evaluation as Evaluation
    from .evaluation import class_folders as class_folders
    from .evaluation import evaluate as evaluate
    from .evaluation import parse_views as parse_views
    from .evaluation import predict as predict
    from .feature_files import Embeddings as Embeddings
    from .feature_maps import ColorMaps as ColorMaps
    from .feature_maps import color_frames as color_frames
    from .feature_maps import patch_tokens as patch_tokens
    from .feature_maps import pca as pca
    from .feature_maps import pca_colors as pca_colors
    from .frechet import frechet_distance as frechet_distance
    from .labels import known_labels as known_labels
    from .labels import read_labels as read_labels
    from .probing import FrozenFeatures as FrozenFeatures
    from .probing import ProbeResult as ProbeResult
    from .probing import frozen_features as frozen_features
    from .probing import probe as probe
    from .reconstruction import Reconstruction as Reconstruction
    from .reconstruction import reconstruct as reconstruct
    from .surprise import Series as Series
    from .surprise import Surprise as Surprise
    from .surprise import surprise as surprise

__all__ = [
    'AttentionMaps',
    'ClassFolders',
    'ColorMaps',
    'Completion',
    'Embeddings',
    'Evaluation',
    'FrozenFeatures',
    'ProbeResult',
    'Reconstruction',
    'Series',
    'Surprise',
    'attend',
    'box_mask',
    'class_folders',
    'color_frames',
    'complete',
    'embed',
    'evaluate',
    'frechet_distance',
    'frozen_features',
    'keep_fraction',
    'known_labels',
    'parse_views',
    'patch_tokens',
    'pca',
    'pca_colors',
    'predict',
    'probe',
    'read_labels',
    'read_mask',
    'reconstruct',
    'strongest_head',
    'surprise',
]

__getattr__, _ = _lazy_names(
    __name__,
    {
        'attention': ('AttentionMaps', 'attend', 'keep_fraction', 'strongest_head'),
        'completion': ('Completion', 'box_mask', 'complete', 'read_mask'),
        'embedding': ('embed',),
        'evaluation': ('ClassFolders', 'Evaluation', 'class_folders', 'evaluate', 'parse_views', 'predict'),
        'feature_files': ('Embeddings',),
        'feature_maps': ('ColorMaps', 'color_frames', 'patch_tokens', 'pca', 'pca_colors'),
        'frechet': ('frechet_distance',),
        'labels': ('known_labels', 'read_labels'),
        'probing': ('FrozenFeatures', 'ProbeResult', 'frozen_features', 'probe'),
        'reconstruction': ('Reconstruction', 'reconstruct'),
        'surprise': ('Series', 'Surprise', 'surprise'),
    },
)


def __dir__() -> list[str]:
    return list(__all__)
