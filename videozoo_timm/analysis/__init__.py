"""What a model makes of videos: what it fills in, where it looks, what it represents, how well it recognizes.

One call each:

    from videozoo_timm.analysis import attend, compare, complete, embed, evaluate, pca, predict, probe, surprise
"""

from typing import TYPE_CHECKING as _TYPE_CHECKING

from .._lazy import lazy_names as _lazy_names

if _TYPE_CHECKING:
    from .attention import AttentionMaps as AttentionMaps
    from .attention import attend as attend
    from .attention import keep_fraction as keep_fraction
    from .attention import strongest_head as strongest_head
    from .behavior import read_behavior as read_behavior
    from .brain import BrainComparison as BrainComparison
    from .brain import predict_responses as predict_responses
    from .comparison import Comparison as Comparison
    from .comparison import compare as compare
    from .completion import Completion as Completion
    from .completion import box_mask as box_mask
    from .completion import complete as complete
    from .completion import read_mask as read_mask
    from .embedding import embed as embed
    from .encoding import Encoding as Encoding
    from .encoding import encode as encode
    from .evaluation import ClassFolders as ClassFolders
    from .evaluation import Evaluation as Evaluation
    from .evaluation import class_folders as class_folders
    from .evaluation import evaluate as evaluate
    from .evaluation import parse_views as parse_views
    from .evaluation import predict as predict
    from .exporting import export as export
    from .feature_files import Embeddings as Embeddings
    from .feature_maps import ColorMaps as ColorMaps
    from .feature_maps import color_frames as color_frames
    from .feature_maps import patch_tokens as patch_tokens
    from .feature_maps import pca as pca
    from .feature_maps import pca_colors as pca_colors
    from .feature_reading import FeatureFile as FeatureFile
    from .feature_reading import open_features as open_features
    from .frechet import frechet_distance as frechet_distance
    from .labels import known_labels as known_labels
    from .labels import read_labels as read_labels
    from .patches import SimilarPatches as SimilarPatches
    from .patches import similar_patches as similar_patches
    from .probing import FrozenFeatures as FrozenFeatures
    from .probing import ProbeResult as ProbeResult
    from .probing import frozen_features as frozen_features
    from .probing import probe as probe
    from .propagation import propagate as propagate
    from .propagation import propagate_labels as propagate_labels
    from .reconstruction import Reconstruction as Reconstruction
    from .reconstruction import reconstruct as reconstruct
    from .segmentation import contour_accuracy as contour_accuracy
    from .segmentation import region_similarity as region_similarity
    from .segmentation import score_labels as score_labels
    from .similarity import dissimilarities as dissimilarities
    from .surprise_series import Series as Series
    from .surprise_series import Surprise as Surprise
    from .surprise_series import surprise as surprise

__all__ = [
    'AttentionMaps',
    'BrainComparison',
    'ClassFolders',
    'ColorMaps',
    'Comparison',
    'Completion',
    'Embeddings',
    'Encoding',
    'Evaluation',
    'FeatureFile',
    'FrozenFeatures',
    'ProbeResult',
    'Reconstruction',
    'Series',
    'SimilarPatches',
    'Surprise',
    'attend',
    'box_mask',
    'class_folders',
    'color_frames',
    'compare',
    'complete',
    'contour_accuracy',
    'dissimilarities',
    'embed',
    'encode',
    'evaluate',
    'export',
    'frechet_distance',
    'frozen_features',
    'keep_fraction',
    'known_labels',
    'open_features',
    'parse_views',
    'patch_tokens',
    'pca',
    'pca_colors',
    'predict',
    'predict_responses',
    'probe',
    'propagate',
    'propagate_labels',
    'read_behavior',
    'read_labels',
    'read_mask',
    'reconstruct',
    'region_similarity',
    'score_labels',
    'similar_patches',
    'strongest_head',
    'surprise',
]

__getattr__, _ = _lazy_names(
    __name__,
    {
        'attention': ('AttentionMaps', 'attend', 'keep_fraction', 'strongest_head'),
        'behavior': ('read_behavior',),
        'brain': ('BrainComparison', 'predict_responses'),
        'comparison': ('Comparison', 'compare'),
        'completion': ('Completion', 'box_mask', 'complete', 'read_mask'),
        'embedding': ('embed',),
        'encoding': ('Encoding', 'encode'),
        'evaluation': ('ClassFolders', 'Evaluation', 'class_folders', 'evaluate', 'parse_views', 'predict'),
        'exporting': ('export',),
        'feature_files': ('Embeddings',),
        'feature_maps': ('ColorMaps', 'color_frames', 'patch_tokens', 'pca', 'pca_colors'),
        'feature_reading': ('FeatureFile', 'open_features'),
        'frechet': ('frechet_distance',),
        'labels': ('known_labels', 'read_labels'),
        'patches': ('SimilarPatches', 'similar_patches'),
        'probing': ('FrozenFeatures', 'ProbeResult', 'frozen_features', 'probe'),
        'propagation': ('propagate', 'propagate_labels'),
        'reconstruction': ('Reconstruction', 'reconstruct'),
        'segmentation': ('contour_accuracy', 'region_similarity', 'score_labels'),
        'similarity': ('dissimilarities',),
        'surprise_series': ('Series', 'Surprise', 'surprise'),
    },
)


def __dir__() -> list[str]:
    return list(__all__)
