"""What a person meets first: names that can be called, results that say what they are, clips in one line."""

import importlib
import logging
import pydoc
import re
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import CLIPS, REPOSITORY
from PIL import Image

import videozoo_timm
from videozoo_timm import analysis, bench, clip_transform, figures, load_model, models, training, video
from videozoo_timm.analysis import (
    ClassFolders,
    attend,
    class_folders,
    complete,
    embed,
    evaluate,
    frozen_features,
    pca,
    predict,
    probe,
)
from videozoo_timm.inference.pipeline import views_of
from videozoo_timm.video import (
    COMPLETION,
    RECOGNITION,
    Job,
    Sampling,
    VideoError,
    find_videos,
    read_clip,
    read_image,
    read_views,
)
from videozoo_timm.video.transforms import prepare_whole

PANS = CLIPS / 'pans'
CAT, COFFEE = str(PANS / 'things' / 'cat.mp4'), str(PANS / 'things' / 'coffee.webm')


@pytest.fixture(scope='module')
def vit():
    return load_model('vit_shapes_motion')


@pytest.fixture(scope='module')
def mae():
    return load_model('mae_shapes_none')


@pytest.fixture(scope='module')
def encoder():
    import timm

    torch.manual_seed(0)
    return timm.create_model('vit_s16_im', depth=2, embed_dim=48, num_heads=2).eval()


# Names


@pytest.mark.parametrize(
    'module', [videozoo_timm, analysis, bench, figures, models, training, video], ids=lambda m: m.__name__
)
def test_what_can_be_called_is_what_is_shown(module):
    shown = [name for name in dir(module) if name != '__version__']
    assert sorted(shown) == sorted(module.__all__)
    values = [getattr(module, name) for name in shown]
    # Names of the package, none of what it imports itself.
    assert all(value.__module__.startswith('videozoo_timm') for value in values if callable(value))
    page = pydoc.render_doc(module, renderer=pydoc.plaintext)
    assert all(name in page for name in shown)
    assert 'lazy_names' not in page and 'TYPE_CHECKING' not in page


@pytest.mark.parametrize(
    'name',
    [
        'attention',
        'completion',
        'embedding',
        'evaluation',
        'feature_files',
        'feature_maps',
        'features',
        'labels',
        'probing',
    ],
)
def test_modules_show_their_own(name):
    module = importlib.import_module(f'videozoo_timm.analysis.{name}')
    page = pydoc.render_doc(module, renderer=pydoc.plaintext)
    assert all(f'{shown}' in page for shown in module.__all__)
    assert 'placement_of' not in page and 'checked_model' not in page and 'class Any' not in page


def test_the_face_imports_nothing_until_it_is_asked():
    code = """
import sys
sys.modules |= dict.fromkeys(['matplotlib', 'av', 'sklearn'])  # not installed
import videozoo_timm, videozoo_timm.analysis as analysis
lazy = [name for name in sys.modules if name.startswith('videozoo_timm.analysis.')]
assert not lazy, lazy
for name in analysis.__all__:
    package = 'video.class_folders' if name in ('ClassFolders', 'class_folders') else 'analysis.'
    assert getattr(analysis, name).__module__.startswith(f'videozoo_timm.{package}'), name
try:
    analysis.embedd
except AttributeError as error:
    assert 'embedd' in str(error)
else:
    raise AssertionError
"""
    subprocess.run([sys.executable, '-c', code], check=True, cwd=REPOSITORY)


@pytest.mark.parametrize('package', [analysis, training], ids=lambda m: m.__name__)
def test_the_names_for_type_checkers_are_those_at_run_time(package):
    source = (Path(package.__file__)).read_text()
    assert sorted(re.findall(r'^    from \.\w+ import (\w+) as \1$', source, flags=re.M)) == sorted(package.__all__)


@pytest.mark.parametrize(
    'old, new, names',
    [
        ('analysis.pictures', 'figures', ['Grid', 'to_bytes', 'save_image', 'save_animation', 'check_pictures']),
        ('analysis.speed', 'bench', ['PlainViT', 'check_plain', 'matrix_product_rate', 'measure']),
        ('analysis.probe', 'analysis.probing', ['PROBES', 'probe', 'frozen_features', 'check_folder', 'save_probes']),
    ],
)
def test_the_paths_of_the_last_version_work_and_warn(old, new, names):
    sys.modules.pop(f'videozoo_timm.{old}', None)
    with pytest.warns(DeprecationWarning, match=f'videozoo_timm.{old} is now videozoo_timm.{new}'):
        before = importlib.import_module(f'videozoo_timm.{old}')
    now = importlib.import_module(f'videozoo_timm.{new}')
    assert all(getattr(before, name) is getattr(now, name) for name in names)


def test_the_names_of_the_last_version_work_and_warn():
    from videozoo_timm.analysis import attention, probing

    with pytest.warns(DeprecationWarning, match='AttentionMaps'):
        assert attention.Attention is attention.AttentionMaps
    with pytest.warns(DeprecationWarning, match='keep_fraction'):
        assert attention.keep_share is attention.keep_fraction
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', DeprecationWarning)
        from videozoo_timm.analysis.probe import Frozen, Probed
    assert Frozen is probing.FrozenFeatures and Probed is probing.ProbeResult
    # The module has taken the function's place in the package, and does what it does.
    features = probing.FrozenFeatures(torch.eye(2), None, ClassFolders(['a', 'b'], ['x', 'y'], [0, 1], 'c'), [])
    assert analysis.probe('neighbours', features, features).evaluation.top(1) == 1


# Clips


def test_a_transform_gives_what_the_commands_give(vit, mae, encoder):
    for model, sampling in ((vit, RECOGNITION), (mae, COMPLETION), (encoder, RECOGNITION)):
        transform = clip_transform(model)
        (view,) = read_views(Job(0, CAT), views_of(model, sampling))
        assert torch.equal(transform.read(CAT), view.x)
        clip = read_clip(CAT, sampling=transform.sampling)
        assert torch.equal(transform(clip), view.x) and torch.equal(transform(clip.frames), view.x)
        assert torch.equal(transform(clip.frames.permute(0, 3, 1, 2)), view.x)  # [T, 3, H, W]
        assert torch.equal(transform(clip.frames.numpy()), view.x)
        with torch.no_grad():
            model(transform(clip).unsqueeze(0))
    assert clip_transform(vit).read(CAT).shape == (3, 16, 112, 112)


def test_a_transform_prepares_stills(vit, encoder, tmp_path):
    path = tmp_path / 'still.png'
    Image.open(REPOSITORY / 'docs' / 'static' / 'clip.jpg').save(path)
    for model in (vit, encoder):
        transform = clip_transform(model)
        (view,) = read_views(Job(0, str(path)), views_of(model))
        pixels = read_image(path)
        assert view.x.ndim == 3
        for image in (pixels, pixels[0], pixels[0].permute(2, 0, 1), np.asarray(pixels[0])):
            assert torch.equal(transform(image), view.x)
        assert torch.equal(transform.read(path), view.x)


def test_a_transform_follows_the_model(vit, encoder):
    import timm

    longer = timm.create_model('vit_t14_st', img_size=84, num_frames=8)
    assert clip_transform(longer).read(CAT).shape == (3, 8, 84, 84)
    assert clip_transform(encoder, size=64).read(CAT).shape == (3, 64, 64)
    first = clip_transform(vit, Sampling(16, 16), short_side=112, crops=(0,))
    (view,) = read_views(Job(0, CAT), views_of(vit, Sampling(16, 16), short_side=112, crops=(0,)))
    assert torch.equal(first.read(CAT), view.x)
    late = clip_transform(vit).read(CAT, start=0.5)
    assert not torch.equal(late, clip_transform(vit).read(CAT))
    assert repr(clip_transform(vit)) == (
        'ClipTransform(16 frames over 4.3 s, 112 x 112 pixels, mean=0.45, std=0.225, bilinear)'
    )
    with pytest.raises(TypeError, match="no option 'sise'"):
        clip_transform(vit, sise=64)
    with pytest.raises(ValueError, match=r'uint8 \[T, H, W, 3\] or \[T, 3, H, W\], got float64 .*\(255'):
        clip_transform(vit)(np.zeros((16, 128, 128, 3)))


# Results


def test_results_say_what_they_are(vit, mae):
    x = clip_transform(mae).read(CAT)
    completion, attention = complete(mae, x, mask_type='center', mask_ratio=0.5), attend(vit, x)
    assert repr(completion) == f'Completion(completed=[3, 16, 112, 112], psnr={completion.psnr:.1f} dB)'
    assert repr(attention) == 'AttentionMaps(frames=[16, 3, 112, 112], weights=[4, 8, 8, 8], block=4)'
    (maps,) = pca(vit, x)
    assert repr(maps) == 'ColorMaps(frames=[16, 3, 112, 112], colors=[8, 3, 8, 8], block=4)'
    assert repr(embed(vit, [CAT, COFFEE], blocks=[3, 1])) == (
        'Embeddings(2 files, features=[2, 2, 128], blocks=[3, 1])'
    )
    folders = class_folders('drawn:16')
    assert repr(folders) == 'ClassFolders(drawn:16: 16 files, 8 classes)'
    evaluation = evaluate(vit, folders)
    assert repr(evaluation).startswith('Evaluation(16 files, 8 classes, top1=')
    frozen = frozen_features(vit, folders, tokens=True)
    assert repr(frozen) == 'FrozenFeatures(features=[16, 128], tokens=[16, 512, 128])'
    probed = probe('neighbours', frozen, frozen)
    assert repr(probed).startswith('ProbeResult(neighbours, k=16, Evaluation(16 files, 8 classes, top1=')
    for result in (completion, attention, maps, evaluation, probed, completion.picture('a')):
        assert len(repr(result)) < 150
        assert result._repr_png_().startswith(b'\x89PNG')


def test_pictures_are_left_out_where_nothing_can_draw_them(vit, mae, monkeypatch):
    x = clip_transform(mae).read(CAT)
    results = [complete(mae, x), attend(vit, x), *pca(vit, x), evaluate(vit, class_folders('drawn:8'))]
    for module in ('PIL', 'matplotlib', 'matplotlib.figure'):
        monkeypatch.setitem(sys.modules, module, None)
    assert [result._repr_png_() for result in results] == [None] * 4


def test_one_pca_colors_all_clips(vit):
    transform = clip_transform(vit)
    clips = [transform.read(path) for path in (CAT, COFFEE)]
    together = pca(vit, clips, block=2)
    tokens = [analysis.patch_tokens(vit, x, block=2) for x in clips]
    for maps, colors in zip(together, analysis.pca_colors(tokens), strict=True):
        assert torch.equal(maps.colors, colors) and maps.block == 2
    with pytest.raises(ValueError, match='no clips'):
        pca(vit, [])


# What is given by mistake


def test_blocks_come_in_the_order_asked_for(vit):
    one_by_one = [embed(vit, [CAT], blocks=[block]).features[:, 0] for block in (3, 1)]
    for blocks in ([3, 1], [-2, -4]):
        result = embed(vit, [CAT], blocks=blocks)
        assert torch.equal(result.features, torch.stack(one_by_one, dim=1)) and result.blocks == [3, 1]


def test_one_path_and_folders_are_taken_for_what_they_mean(vit):
    assert embed(vit, CAT).paths == [CAT] == embed(vit, Path(CAT)).paths
    folder = [str(path) for path in find_videos(PANS)]
    assert embed(vit, PANS).paths == folder == embed(vit, [PANS]).paths
    assert len(embed(vit, 'drawn:3').paths) == 3
    assert list(predict(vit, CAT)[0]) == [0]
    assert len(evaluate(vit, 'drawn:8').paths) == 8


def test_what_cannot_be_meant_is_refused_in_words(vit, mae, tmp_path):
    for files in ([], tmp_path):
        with pytest.raises(ValueError, match='no files'):
            embed(vit, files)
    with pytest.raises(ValueError, match='no files'):
        predict(vit, [])
    with pytest.raises(ValueError, match=r'stride=1.0 and num_clips=3'):
        embed(vit, [CAT], stride=1.0, num_clips=3)
    x = clip_transform(vit).read(CAT)
    for call in (
        lambda model: embed(model, [CAT]),
        lambda model: attend(model, x),
        lambda model: complete(model, x),
        lambda model: pca(model, x),
        lambda model: evaluate(model, 'drawn:8'),
        lambda model: frozen_features(model, 'drawn:8'),
        clip_transform,
    ):
        with pytest.raises(TypeError, match=r"load_model\('vit_shapes_motion'\)"):
            call('vit_shapes_motion')


def test_clips_of_another_form_are_taken_or_refused_in_words(vit, mae):
    x = clip_transform(mae).read(CAT)
    calls = (lambda x: complete(mae, x), lambda x: attend(vit, x), lambda x: pca(vit, x))
    for call in calls:
        for wrong, words in (
            (x.transpose(0, 1), r'x\.transpose\(0, 1\)'),
            (x.unsqueeze(0).unsqueeze(0), r'got \[1, 1, 3, 16, 112, 112\]'),
            (torch.zeros(16, 112), r'got \[16, 112\]'),
            (x.byte(), r'uint8 .*clip_transform\(model\)'),
        ):
            with pytest.raises(ValueError, match=words):
                call(wrong)
    for call in calls[:2]:  # to a PCA a batch is several clips
        with pytest.raises(ValueError, match=r'x\[0\]'):
            call(x.unsqueeze(0))
    assert torch.equal(attend(vit, x.numpy()).weights, attend(vit, x).weights)
    assert torch.equal(attend(vit, x.double()).weights, attend(vit, x).weights)
    mask = analysis.box_mask(mae, (4, 12, 28, 84, 28, 84))
    assert torch.equal(complete(mae, x.numpy(), mask=mask.numpy()).completed, complete(mae, x, mask=mask).completed)


def test_a_picture_is_saved_to_a_string(mae, tmp_path):
    picture = complete(mae, clip_transform(mae).read(CAT)).picture()
    picture.save(str(tmp_path / 'a.png'))
    with Image.open(tmp_path / 'a.png') as saved:
        assert saved.size == picture.image.size


def test_files_that_fail_are_told_with_their_reasons(vit, tmp_path, caplog):
    broken = [tmp_path / name for name in ('a.mp4', 'b.mp4')]
    for path in broken:
        path.write_bytes(b'no video')
    folders = ClassFolders(['x'] * 8, list(map(str, broken)), [0, 1], 'c')
    for failing in (lambda: embed(vit, broken), lambda: evaluate(vit, folders), lambda: frozen_features(vit, folders)):
        with pytest.raises((VideoError, ValueError), match=r'none of 2 files.* could be read: .*a\.mp4.*b\.mp4'):
            failing()
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        result = embed(vit, [CAT, broken[0]])
    assert len(result.failed) == 1 and 'a.mp4' in caplog.text and repr(result).endswith('failed=1)')


# What is given in another form


def test_masks_of_zeros_and_ones_are_masks(mae):
    x, mask = clip_transform(mae).read(CAT), analysis.box_mask(mae, (4, 12, 28, 84, 28, 84))
    want = complete(mae, x, mask=mask)
    for same in (mask.numpy(), mask.int(), mask.float().numpy(), mask.tolist()):
        assert torch.equal(complete(mae, x, mask=same).completed, want.completed)
    with torch.no_grad():
        *_, returned = mae(x.unsqueeze(0), mask=mask.unsqueeze(0))  # the model's own mask is one too
    assert torch.equal(complete(mae, x, mask=returned.unflatten(1, mask.shape)[0]).completed, want.completed)
    for wrong, words in (
        (mask.byte() * 255, 'zeros and ones; got uint8'),
        (mask.float() * float('nan'), 'zeros and ones; got float32'),
        (mask[0], r'got bool \[1, 8, 8\]$'),
    ):
        with pytest.raises(ValueError, match=words):
            complete(mae, x, mask=wrong)
    with pytest.raises(ValueError, match=r'mask\.unsqueeze\(0\)'):
        mae(x.unsqueeze(0), mask=mask)
    with pytest.raises(TypeError, match=r"read_mask\('mask.npy', grid\)"):
        complete(mae, x, mask='mask.npy')
    for double, words in ((dict(mask_type='center'), "mask_type='center'"), (dict(mask_ratio=0.5), 'mask_ratio=0.5')):
        with pytest.raises(ValueError, match=f'mask and {words} both say what is masked'):
            complete(mae, x, mask=mask, **double)


def test_what_is_no_clip_is_told_what_gives_one(vit, mae, encoder):
    x, clip = clip_transform(mae).read(CAT), read_clip(CAT)
    image = Image.fromarray(clip.frames[0].numpy())
    for call in (lambda x: complete(mae, x), lambda x: attend(vit, x), lambda x: pca(vit, x)):
        for wrong, error, words in (
            (CAT, TypeError, r"got the path '.*cat.mp4'; clip_transform\(model\)\.read\('"),
            (clip, TypeError, r'got Clip; clip_transform\(model\)\(clip\)'),
            (image, TypeError, r'got Image; clip_transform\(model\)\(clip\)'),
            (None, TypeError, 'got NoneType'),
            (x.permute(1, 2, 3, 0), ValueError, r'x\.permute\(3, 0, 1, 2\)'),
            (x[:, 0].permute(1, 2, 0), ValueError, r'x\.permute\(2, 0, 1\)'),
        ):
            with pytest.raises(error, match=words):
                call(wrong)
    for call in (attend, pca):
        with pytest.raises(ValueError, match=r'vit_s16_im takes images .*\[3, 16, 112, 112\]; take a frame: x\[:, t\]'):
            call(encoder, x)
    together = pca(vit, torch.stack([x, x.flip(1)]))  # a batch is several
    assert len(together) == 2 and len(pca(vit, x.numpy())) == 1 == len(pca(vit, iter([x])))


def test_frames_of_every_layout_are_prepared(vit):
    transform, frames = clip_transform(vit), read_clip(CAT).frames  # [T, H, W, 3]
    settings = dict(mean=0.45, std=0.225)
    calls = (
        transform,
        lambda x: video.prepare_clip(x, 112, **settings),
        lambda x: prepare_whole(x, 112, 14, **settings),
        lambda x: video.augment_clip(x, 112, video.Augmentation(), 0, **settings),
    )
    for call in calls:
        want = call(frames)
        for same in (frames.permute(0, 3, 1, 2), frames.numpy(), frames.permute(0, 3, 1, 2).numpy()):
            assert torch.equal(call(same), want)
        for wrong, words in (
            (frames.permute(3, 0, 1, 2), r'got uint8 \[3, 16, 240, 320\].*x\.transpose\(0, 1\)'),
            (frames[None], r'without the batch dimension: x\[0\]'),
            (frames / 255, r'got float32 .*\(255 \* x\)'),
            (frames.permute(0, 3, 1, 2)[:, :1], r'got uint8 \[16, 1, 240, 320\]'),
        ):
            with pytest.raises(ValueError, match=words):
                call(wrong)
    images = [Image.fromarray(frame) for frame in frames.numpy()]
    for same in (images, list(frames), tuple(frames.numpy())):
        assert torch.equal(transform(same), transform(frames))
    assert torch.equal(transform(images[3]), transform(frames[3]))
    with pytest.raises(TypeError, match=r"got the path .*read\('"):
        transform(CAT)
    pixels = video.denormalize(transform(frames), **settings)
    assert torch.equal(video.denormalize(transform(frames).numpy(), **settings), pixels)
    assert torch.equal(video.denormalize(transform(frames)[:, 3], **settings), pixels[:, 3])


def test_models_in_wrappers_are_those_in_them(vit):
    x, want = clip_transform(vit).read(CAT), embed(vit, CAT)
    for wrapped in (torch.compile(vit), torch.nn.DataParallel(vit), torch.nn.DataParallel(torch.compile(vit))):
        assert torch.equal(embed(wrapped, CAT).features, want.features)
        assert torch.equal(attend(wrapped, x).weights, attend(vit, x).weights)
        assert torch.equal(clip_transform(wrapped).read(CAT), x)
    for no_model in (torch.nn.Linear(2, 2), vit.state_dict(), None, type(vit)):
        with pytest.raises(TypeError, match='model is wanted, got'):
            embed(no_model, CAT)
    with pytest.raises(ValueError, match='no class token whose attention can be shown'):
        import timm

        attend(timm.create_model('vit_tiny_patch16_224', depth=1), x[:, 0])


def test_blocks_views_and_options_as_people_write_them(vit, tmp_path):
    want = embed(vit, CAT, blocks=[3]).features
    for blocks, out in (
        (3, None),
        (range(3, 4), None),
        (torch.tensor([-2]), None),
        (np.array([3]), tmp_path / 'x.npz'),
    ):
        result = embed(vit, CAT, blocks=blocks, out=out)
        assert torch.equal(torch.as_tensor(result.features), want) and 'blocks=[3]' in repr(result)
    for call in (lambda b: embed(vit, CAT, blocks=b), lambda b: attend(vit, torch.zeros(3, 16, 112, 112), block=b)):
        for wrong in ('last', 1.5):
            with pytest.raises(TypeError, match='blocks are whole numbers'):
                call(wrong)
    assert repr(evaluate(vit, 'drawn:8', '1x1')) == repr(evaluate(vit, 'drawn:8'))
    with pytest.raises(ValueError, match="views='5x': must be"):
        evaluate(vit, 'drawn:8', '5x')
    with pytest.raises(TypeError, match="no option 'workers'; did you mean 'num_workers'"):
        embed(vit, CAT, workers=2)
    with pytest.raises(TypeError, match="no option 'device'; there are .*'num_workers'"):
        predict(vit, CAT, device='cuda')
    with pytest.raises(TypeError, match=r'sampling=64: Sampling\(num_frames, span\)'):
        embed(vit, CAT, sampling=64)
    with pytest.raises(TypeError, match=r'train must be features, got str; frozen_features\(model, folder\)'):
        probe('linear', 'a', 'b')
    evaluate(vit, 'drawn:8').save(str(tmp_path / 'tables'))
    assert (tmp_path / 'tables' / 'summary.json').exists()


def test_a_file_is_never_taken_for_true(tmp_path):
    """`pretrained='mine.pth'` loaded the published weights, and nobody noticed."""
    import timm

    for pretrained in ('mine.pth', tmp_path / 'mine.safetensors', 'file'):
        with pytest.raises(TypeError, match=r'pretrained=.*: must be True or False'):
            load_model('vit_shapes_motion', pretrained=pretrained)
        with pytest.raises(TypeError, match=r'must be True or False; pretrained_cfg_overlay=dict\(file=...\)'):
            timm.create_model('vit_t14_st', pretrained=pretrained)
    with pytest.raises(TypeError, match='must be True or False'):
        load_model('say_gimel', pretrained='mine.pth')


@pytest.mark.parametrize(
    'name, error, words',
    [
        (None, ValueError, "name a model, for instance 'vit_hvm1_none'"),
        (5, TypeError, 'the name of a model is wanted, got int'),
        (['vit_hvm1_none'], TypeError, 'the name of a model is wanted, got list'),
        ('mine.pth', ValueError, r"a file is no name: load_file\('mine.pth'\)"),
        ('https://x.org/a.pth', ValueError, 'a URL is no name: download the file'),
        ('hvm1', ValueError, "did you mean 'mae_hvm1_none' or 'vit_hvm1_none'"),
        ('imagenet-2pt', ValueError, "did you mean '.*imagenet-2pt'"),
        ('hvm-1', ValueError, r"which is a zoo; get_available_models\('hvm-1'\)"),
        ('', ValueError, "no model ''; get_available_models"),
    ],
)
def test_what_is_no_name_is_told(name, error, words):
    with pytest.raises(error, match=words):
        load_model(name)
