"""Runs one toolbox on drawn stimuli and compares what it gives with this package; toolboxes.sh makes its environment.

python toolboxes.py brainscore|thingsvision|physion FOLDER
"""

import json
import os
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

import videozoo_timm
from videozoo_timm import clip_transform, load_model
from videozoo_timm.adapters import PhysionExtractor, write_brainscore_plugin
from videozoo_timm.analysis import patch_tokens
from videozoo_timm.synthetic import RATE, make_scene
from videozoo_timm.video import Sampling, read_clip
from videozoo_timm.video.writing import save_video

VIDEO, MAE = 'vit_shapes_motion', 'mae_shapes_none'  # they come with this package
IMAGE = 'mae_say_vits16'  # with random weights, as its own would have to be downloaded


def draw(folder: Path) -> tuple[list[str], list[str]]:
    """Drawn stimuli: paths of three `.mp4` files of 4.5 seconds, and of a `.png` file of each."""
    videos, images = [], []
    for number, motion in enumerate(('left', 'grow', 'rotate')):
        frames = list(make_scene(7, number, motion).images(160))
        videos.append(str(folder / 'videos' / f'dominoes_{motion}.mp4'))
        images.append(str(folder / 'images' / f'{motion}.png'))
        for path in (videos[-1], images[-1]):
            Path(path).parent.mkdir(parents=True, exist_ok=True)
        save_video(frames, Path(videos[-1]), RATE)
        Image.fromarray(frames[60]).save(images[-1])
    return sorted(videos), sorted(images)


def with_random_image_encoder() -> Any:
    """`load_model` that downloads nothing."""

    def load(name: str, **kwargs: Any) -> torch.nn.Module:
        torch.manual_seed(0)
        return load_model(name, pretrained=name != IMAGE, **kwargs)

    videozoo_timm.load_model = load
    return load


def blocks_of(model: Any, x: torch.Tensor, layers: list[str]) -> list[tuple[np.ndarray, np.ndarray]]:
    """What this package gives for the blocks of these names: of each the patch tokens and the class token."""
    with torch.inference_mode():
        rows = model.forward_intermediates(
            x,
            indices=[int(layer.rpartition('.')[2]) for layer in layers],
            intermediates_only=True,
            return_prefix_tokens=True,
        )
    return [(maps.movedim(1, -1).numpy(), prefix.numpy()) for maps, prefix in rows]  # [B, (T',) H', W', C], [B, 1, C]


def check(what: str, theirs: Any, ours: Any, tolerance: float) -> str:
    """How far features are from each other, as a fraction of the largest; an error if that is too far."""
    theirs, ours = np.asarray(theirs, np.float32), np.asarray(ours, np.float32)
    assert theirs.shape == ours.shape, f'{what}: {theirs.shape} is not {ours.shape}'
    difference = float(np.abs(theirs - ours).max() / np.abs(ours).max())
    assert difference <= tolerance, f'{what}: {difference:.1e} is above {tolerance:.0e}'
    return f'{what} {"equal" if difference == 0 else f"within {difference:.0e}"}'


def brainscore(folder: Path) -> tuple[str, list[str], str]:
    """Its loader finds the plugins, its wrappers run them."""
    os.environ.update(RESULTCACHING_DISABLE='1', BS_INSTALL_DEPENDENCIES='no')
    import brainscore_vision
    from brainscore_core.supported_data_standards.brainio.stimuli import StimulusSet
    from brainscore_vision.model_interface import BrainModel

    load, (videos, images), said = with_random_image_encoder(), draw(folder), []
    plugins = Path(brainscore_vision.__file__).parent / 'models'
    for name in (VIDEO, MAE, IMAGE):
        write_brainscore_plugin(name, plugins / f'videozoo_{name}', force=True)
    for name in (VIDEO, MAE):
        brain = brainscore_vision.load_model(name)
        model, layers = load(name), brain.layers
        given = brain.activations_model(videos, layers=layers).transpose('stimulus_path', 'neuroid', 'time_bin')
        # The first block of a video are frames 0, 8, ..., 120; each step of time fills two of its 16 bins.
        transform = clip_transform(model, Sampling(16, 121))
        clips = torch.stack([transform.read(video, start=0.0) for video in videos])
        for layer, (maps, _) in list(zip(layers, blocks_of(model, clips, layers), strict=True))[:: len(layers) - 1]:
            values = given.values[:, given['layer'].values == layer, :16]
            maps = np.repeat(maps, 2, axis=1).transpose(0, 2, 3, 4, 1).reshape(values.shape)
            said.append(check(f'{name} {layer}', values, maps, 2e-3))  # float16, and another decoder
        stills = brain.activations_model(images, layers=layers[-1:])
        clip = torch.stack([clip_transform(model).read(image) for image in images])
        clip = clip.unsqueeze(2).expand(-1, -1, 16, -1, -1)
        maps = np.repeat(blocks_of(model, clip, layers[-1:])[0][0], 2, axis=1).transpose(0, 2, 3, 4, 1)
        values = stills.transpose('stimulus_path', 'neuroid', 'time_bin').values
        said.append(check(f'{name} {layers[-1]} of images', values, maps.reshape(values.shape), 2e-3))

    def stimuli_of(paths: list[str]) -> Any:
        names = [Path(path).stem for path in paths]
        stimuli = StimulusSet(dict(stimulus_id=names, image_label=['a', 'b', 'b']))
        stimuli.stimulus_paths, stimuli.identifier = dict(zip(names, paths, strict=True)), 'drawn'
        return stimuli

    brain = brainscore_vision.load_model(IMAGE)
    model, layers = load(IMAGE), brain.layers
    given = brain.activations_model(images, layers=layers)
    x = torch.stack([clip_transform(model).read(image) for image in images])
    for layer, (maps, prefix) in list(zip(layers, blocks_of(model, x, layers), strict=True))[:: len(layers) - 1]:
        tokens = np.concatenate([prefix, maps.reshape(len(x), -1, maps.shape[-1])], axis=1)
        values = given.transpose('presentation', 'neuroid').values[:, given['layer'].values == layer]
        said.append(check(f'{IMAGE} (random weights) {layer}', values, tokens.reshape(values.shape), 1e-5))
    # As a benchmark would, but with a region that this script has assigned: Brain-Score's own choice needs its data.
    for name, paths in ((IMAGE, images), (VIDEO, videos)):
        brain = brainscore_vision.load_model(name)
        brain.layer_model.region_layer_map['IT'] = brain.layers[-1]
        brain.start_recording(BrainModel.RecordingTarget.IT, time_bins=[(70, 170)])
        seen = brain.look_at(stimuli_of(paths))
        assert seen.sizes['presentation'] == 3 and set(seen['region'].values) == {'IT'}
    brain = brainscore_vision.load_model(IMAGE)
    brain.start_task(BrainModel.Task.probabilities, stimuli_of(images))
    assert brain.look_at(stimuli_of(images)).shape == (3, 2)
    assert brainscore_vision.load_model_bibtex(IMAGE).startswith('@article')
    said.append('regions and probabilities run')
    version = f'{metadata.version("brainscore-vision")} (core {metadata.version("brainscore-core")})'
    return version, said, 'not run: its benchmarks and its choice of a layer for each region, whose data it downloads'


def thingsvision(folder: Path) -> tuple[str, list[str], str]:
    """By a name of timm's, and by a model of one's own."""
    from thingsvision import get_extractor, get_extractor_from_model
    from thingsvision.utils.data import DataLoader, ImageDataset

    (videos, images), said, model = draw(folder), [], load_model(VIDEO)

    def features(extractor: Any, module: str) -> np.ndarray:
        dataset = ImageDataset(
            root=str(folder / 'images'), out_path=str(folder), backend='pt', transforms=extractor.get_transformations()
        )
        batches = DataLoader(dataset=dataset, batch_size=2, backend='pt')
        return extractor.extract_features(batches=batches, module_name=module, flatten_acts=False)

    extractor = get_extractor('vit_t14_st.shapes_motion', pretrained=True, device='cpu', source='timm')
    transform = extractor.get_transformations()
    x = torch.stack([transform(Image.open(image).convert('RGB')) for image in images])
    (maps, prefix), *_ = blocks_of(model, x.unsqueeze(2).expand(-1, -1, 16, -1, -1), ['blocks.2'])
    tokens = np.concatenate([prefix, maps.reshape(3, -1, maps.shape[-1])], axis=1)
    said.append(check("source='timm' blocks.2", features(extractor, 'blocks.2'), tokens, 1e-5))

    class_token = get_extractor(
        'vit_t14_st.shapes_motion',
        pretrained=True,
        device='cpu',
        source='timm',
        model_parameters={'token_extraction': 'cls_token'},
    )
    with torch.inference_mode():
        wanted = model.forward_head(model.forward_features(x), pre_logits=True)
    said.append(check("source='timm' class token", features(class_token, 'norm'), wanted, 1e-5))

    own = get_extractor_from_model(load_model(VIDEO), device='cpu', backend='pt', preprocess=clip_transform(model))
    x = torch.stack([clip_transform(model).read(image) for image in images])
    (maps, prefix), *_ = blocks_of(model, x.unsqueeze(2).expand(-1, -1, 16, -1, -1), ['blocks.2'])
    tokens = np.concatenate([prefix, maps.reshape(3, -1, maps.shape[-1])], axis=1)
    said.append(check('get_extractor_from_model blocks.2 of images', features(own, 'blocks.2'), tokens, 1e-5))
    clips = torch.stack([clip_transform(model).read(video) for video in videos])
    with own.batch_extraction(module_name='blocks.2', output_type='ndarray') as extraction:
        given = extraction.extract_batch(batch=clips, flatten_acts=False)
    (maps, prefix), *_ = blocks_of(model, clips, ['blocks.2'])
    tokens = np.concatenate([prefix, maps.reshape(3, -1, maps.shape[-1])], axis=1)
    said.append(check('of clips', given, tokens, 1e-5))
    return (
        metadata.version('thingsvision'),
        said,
        'installed without its pins of torchvision, safetensors, transformers',
    )


class Motion(PhysionExtractor):
    """As a user of Physion's evaluator writes it."""

    name = VIDEO


def physion(folder: Path) -> tuple[str, list[str], str]:
    """The evaluator's data set, if the evaluator is there, and the class by its interface."""
    (videos, _), extractor = draw(folder), Motion().eval()
    transform, gap, frames = extractor.transform()
    model = load_model(VIDEO)
    clips = [read_clip(video, sampling=Sampling(16, 46), start=0.0) for video in videos]  # frames 0, 3, ..., 45
    wanted = torch.stack([patch_tokens(model, clip_transform(model)(clip)).mean(dim=(1, 2)) for clip in clips])
    try:
        from physion_evaluator.dataloader_mp4s import Physion, custom_collate
        from physion_evaluator.feature_extract_interface import PhysionFeatureExtractor
    except ImportError:
        films = torch.stack([transform(list(clip.frames)) for clip in clips])
        said = [check('features', extractor.extract_features(films), wanted, 1e-5)]
        return 'not installed', said, 'not run: its loader, as physion_evaluator could not be fetched from GitHub'
    assert isinstance(extractor, PhysionFeatureExtractor)
    labels = {Path(video).stem: dict(label=1, contact_frame_label=60) for video in videos}
    (folder / 'labels.json').write_text(json.dumps(labels))
    for task in ('ocp', 'ocd'):
        films = Physion(
            transform=transform,
            mp4_paths=f'{folder}/videos/*.mp4',
            labels_path=str(folder / 'labels.json'),
            task=task,
            frame_gap=gap,
            num_frames=frames,
        )
        batch = next(iter(torch.utils.data.DataLoader(films, batch_size=3, collate_fn=custom_collate)))
        features = extractor.extract_features(batch['video'])
        assert features.shape == wanted.shape
        if task == 'ocp':
            order = [videos.index(name) for name in batch['filename']]
            said = [check('its films, ocp', features, wanted[order], 1e-3)]
    return 'physion_evaluator', [*said, 'ocd runs'], 'not run: physion_feature_extract, which wants a GPU and its films'


def main() -> int:
    """Run a toolbox and print its line."""
    name, folder = sys.argv[1], Path(sys.argv[2]) / f'stimuli of {sys.argv[1]}'
    folder.mkdir(exist_ok=True)
    run = dict(brainscore=brainscore, thingsvision=thingsvision, physion=physion)[name]
    versions = f'PyTorch {torch.__version__}, timm {metadata.version("timm")}, NumPy {np.__version__}'
    try:
        version, said, left = run(folder)
    except Exception as error:
        print(f'{name} ({versions}): FAILED: {type(error).__name__}: {error}', flush=True)
        raise
    print(f'{name} {version} ({versions}): {"; ".join(said)}; {left}', flush=True)
    return 0


if __name__ == '__main__':
    sys.exit(main())
