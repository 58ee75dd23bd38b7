"""What a model fills in, where it looks, what it represents: in Python and at the command line."""

import csv
import json
import math
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
from conftest import CLIPS, REPOSITORY, TINY_MAE, golden, published
from golden import recipe
from PIL import Image
from test_video import decode_all
from torch.utils._python_dispatch import TorchDispatchMode

from videozoo_timm.analysis.attention import attend, keep_fraction
from videozoo_timm.analysis.completion import box_mask, complete
from videozoo_timm.analysis.embedding import embed
from videozoo_timm.analysis.feature_maps import pca_colors
from videozoo_timm.cli import main
from videozoo_timm.figures import Grid, to_bytes
from videozoo_timm.inference.pipeline import groups_of, views_of
from videozoo_timm.video import (
    COMPLETION,
    RECOGNITION,
    Views,
    denormalize,
    prepare_clip,
    read_clip,
)

PANS = CLIPS / 'pans'
CAT = str(PANS / 'things' / 'cat.mp4')


@pytest.fixture(scope='module')
def mae():
    model = timm.create_model('mae_t14_st', **TINY_MAE)
    model.load_state_dict(published('video_mae_tiny'))
    return model.eval()


@pytest.fixture(scope='module')
def vit():
    torch.manual_seed(0)
    return timm.create_model('vit_t14_st', num_classes=3).eval()


@pytest.fixture(scope='module')
def weights(tmp_path_factory, vit):
    """Checkpoints of the small models: (ViT without a head, MAE)."""
    from safetensors.torch import save_file

    folder = tmp_path_factory.mktemp('weights')
    torch.manual_seed(0)
    for name in ('vit_t14_st', 'mae_t14_st'):
        save_file(timm.create_model(name, num_classes=0).state_dict(), folder / f'{name}.safetensors')
    save_file(vit.state_dict(), folder / 'classes.safetensors')
    return folder


@pytest.fixture
def videozoo(monkeypatch, tmp_path, capsys, weights):
    """Run a command in this process, in an empty folder: (exit code, output, errors)."""
    monkeypatch.chdir(tmp_path)

    def run(command, *args, model='vit_t14_st', file=None):
        file = weights / f'{file or model}.safetensors'
        code = main([command, *map(str, args), '--model', model, '--weights', str(file), '--num-workers', '0'])
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


def clip_of(path, size=112, sampling=COMPLETION):
    return prepare_clip(read_clip(path, sampling=sampling).frames, size, mean=0.45, std=0.225)


# Completions


def test_the_picture_of_a_completion_is_the_published_comparison(mae):
    want = golden('video_mae_tiny')['center_50.comparison']  # [1, 3, 3, 16, 56, 56]
    result = complete(mae, recipe.clip('video_mae_tiny', (1, 3, 16, 56, 56))[0], mask_type='center', mask_ratio=0.5)
    pixels = denormalize(want[0], 0.45, 0.225)
    for ours, theirs in zip((result.original, result.masked, result.completed), pixels, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=0)
    grid = result.picture('title', [f'{k}' for k in range(16)])
    picture = np.array(grid.image)
    for row, tiles in enumerate(pixels):
        for column in range(16):
            left, top, right, bottom = grid.box(row, column)
            want = np.round(255 * tiles[:, column].permute(1, 2, 0).numpy())
            assert np.abs(picture[top:bottom, left:right] - want).max() <= 1  # a value may lie at a half
    gray = to_bytes(result.masked.transpose(0, 1))[
        result.mask.repeat_interleave(2, 0).repeat_interleave(14, 1).repeat_interleave(14, 2).numpy()
    ]
    assert np.unique(gray).tolist() == [115]  # 0.45, even in every channel
    error = (result.completed - result.original)[:, 4:12].double().pow(2).mean().item()
    assert result.mse == pytest.approx(error) and result.psnr == pytest.approx(-10 * math.log10(error))


def test_random_masks_are_those_of_their_seed_and_leave_the_others_alone(mae):
    clip = recipe.clip('video_mae_tiny', (1, 3, 16, 56, 56))[0]
    torch.manual_seed(7)
    before = torch.random.get_rng_state()
    first, again, other = (complete(mae, clip, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(first.mask, again.mask) and not torch.equal(first.mask, other.mask)
    assert first.mask.shape == (8, 4, 4) and first.mask.sum() == 128 - int(128 * (1 - 0.9))
    torch.manual_seed(0)
    assert torch.equal(first.mask.flatten(), mae(clip.unsqueeze(0))[2][0].bool())  # the published draw


def test_predictions_of_normalized_pixels_are_shown_as_pixels():
    model = timm.create_model('mae_t14_st', **TINY_MAE, norm_pix_loss=True).eval()
    clip = recipe.clip('video_mae_tiny', (1, 3, 16, 56, 56))
    with torch.no_grad():
        _, pred, mask, comparison = model(clip, 0.5, visualize=True, mask_type='center')
    target, shown = model.patchify(clip)[mask.bool()], model.patchify(comparison[:, 2])[mask.bool()]
    scaled = (shown - target.mean(-1, keepdim=True)) / (target.var(-1, keepdim=True) + 1e-6) ** 0.5
    torch.testing.assert_close(scaled, pred[mask.bool()], atol=1e-4, rtol=1e-4)


def test_a_box_drops_the_tokens_that_it_touches(mae):
    mask = box_mask(mae, (2, 4, 0, 56, 14, 29))
    want = torch.zeros(8, 4, 4, dtype=torch.bool)
    want[1, :, 1:3] = True
    assert torch.equal(mask, want)
    result = complete(mae, recipe.clip('video_mae_tiny', (1, 3, 16, 56, 56))[0], mask=mask)
    assert torch.equal(result.mask, want)
    for box, words in (
        ((0, 17, 0, 1, 0, 1), 't0,t1 = 0,17'),
        ((0, 1, 5, 5, 0, 1), 'y0,y1 = 5,5'),
        ((0, 1), 'got 2 numbers'),
    ):
        with pytest.raises(ValueError, match=words):
            box_mask(mae, box)


def test_complete(videozoo, tmp_path):
    code, out, _ = videozoo(
        'complete', PANS, '--mask-type', 'temporal', '--mask-ratio', '0.5', '--animate', 'gif', model='mae_t14_st'
    )
    folder = tmp_path / 'completions'
    assert code == 0 and out.splitlines()[-1] == 'completions: 4 pictures, and completions.csv'
    assert sorted(p.name for p in folder.glob('*.jpg')) == [
        f'{name}_mae_t14_st_temporal50.jpg' for name in ('astronaut', 'cat', 'coffee', 'motorcycle')
    ]
    picture = np.array(Image.open(folder / 'cat_mae_t14_st_temporal50.jpg')).astype(int)
    rows = [(name, torch.zeros(16, 3, 112, 112)) for name in ('original', 'masked', 'completed')]
    left, top, right, bottom = Grid(rows, ['0.00 s'] * 16, 'title').box(0, 0)
    want = 255 * denormalize(clip_of(CAT), 0.45, 0.225)[:, 0].permute(1, 2, 0).numpy()
    assert np.abs(picture[top:bottom, left:right] - want).mean() < 3  # JPEG
    left, top, right, bottom = Grid(rows, ['0.00 s'] * 16, 'title').box(1, 15)
    assert np.abs(picture[top + 2 : bottom - 2, left + 2 : right - 2] - 115).max() <= 3
    with Image.open(folder / 'cat_mae_t14_st_temporal50.gif') as animation:
        assert animation.n_frames == 16 and animation.size == (336, 112)
    videozoo('complete', CAT, '--mask-type', 'center', '--animate', 'mp4', model='mae_t14_st')
    times, images = decode_all(folder / 'cat_mae_t14_st_center90.mp4')
    assert len(images) == 16 and images[0].shape == (112, 336, 3)
    assert times[-1] == pytest.approx(15 / 16 * 65 / 30, abs=0.01)
    with open(folder / 'completions.csv') as file:
        table = list(csv.DictReader(file))
    assert [row['mask'] for row in table] == ['temporal'] * 4 + ['center']  # the earlier ones stay
    videozoo('complete', CAT, '--mask-type', 'center', '--mask-ratio', '0.5', model='mae_t14_st')
    assert {p.name for p in folder.glob('cat*center*.jpg')} == {f'cat_mae_t14_st_center{k}.jpg' for k in (50, 90)}
    assert all(float(row['psnr']) == pytest.approx(-10 * math.log10(float(row['mse']))) for row in table)
    (tmp_path / 'file').touch()
    for wrong, words in (
        (['--mask-ratio', '0'], '--mask-ratio 0 masks nothing'),
        (['--out', 'file'], 'file is a file, not a folder; name another --out'),
        (['--out', 'file/a'], 'file is no folder'),
    ):
        code, _, err = videozoo('complete', CAT, *wrong, model='mae_t14_st')
        assert code == 2 and words in err


def test_pictures_of_another_command_stay_where_their_files_have_one_name(videozoo, tmp_path):
    for folder in ('a', 'b'):
        (tmp_path / folder).mkdir()
        shutil.copy(CAT, tmp_path / folder / 'cat.mp4')

    def pictures():
        return {path.name: path.stat().st_mtime_ns for path in (tmp_path / 'attention').glob('*.jpg')}

    assert videozoo('attend', 'a')[0] == 0
    first = pictures()
    assert videozoo('attend', 'b')[0] == 0
    both = pictures()
    assert sorted(both) == [f'{name}_vit_t14_st_attention_block4.jpg' for name in ('b_cat.mp4', 'cat')]
    assert both.items() > first.items()
    assert videozoo('attend', tmp_path / 'a' / 'cat.mp4')[0] == 0  # the same file again
    again = pictures()
    assert again.keys() == both.keys() and len(again.items() - both.items()) == 1


def test_masks_of_ones_own(videozoo, tmp_path):
    mask = np.zeros((8, 8, 8), bool)
    mask[:, 2:6, 2:6] = True
    np.save(tmp_path / 'mask.npy', mask)
    assert videozoo('complete', CAT, '--mask-file', 'mask.npy', model='mae_t14_st')[0] == 0
    assert videozoo('complete', CAT, '--mask-box', '0,16,28,84,28,84', model='mae_t14_st')[0] == 0
    file, box = (Image.open(tmp_path / 'completions' / f'cat_mae_t14_st_{kind}.jpg') for kind in ('file', 'box'))
    assert np.array_equal(np.array(file)[40:], np.array(box)[40:])  # below the title
    np.save(tmp_path / 'numbers.npy', mask.astype(float))
    np.save(tmp_path / 'small.npy', mask[:, :2])
    np.save(tmp_path / 'all.npy', np.ones((8, 8, 8), bool))
    for name, words in (
        ('numbers.npy', 'boolean array'),
        ('small.npy', '= (8, 8, 8), True where'),
        ('no.npy', 'no.npy: no such file'),
        (CAT, 'cannot be read as a .npy array'),
        ('all.npy', 'not everywhere'),
    ):
        code, _, err = videozoo('complete', CAT, '--mask-file', name, model='mae_t14_st')
        assert code == 2 and words in err
    code, _, err = videozoo('complete', CAT, '--mask-box=0,99,0,1,0,1', model='mae_t14_st')
    assert code == 2 and 't0,t1 = 0,99' in err
    for own in (['--mask-box', '0,16,28,84,28,84'], ['--mask-file', 'mask.npy']):
        for other in (['--mask-type', 'center'], ['--mask-ratio', '0.5']):
            code, _, err = videozoo('complete', CAT, *own, *other, model='mae_t14_st')
            assert code == 2 and f'{own[0]} and {" ".join(other)} both say what is masked' in err


def test_the_published_command_lines(videozoo, tmp_path):
    """As people type them for the published scripts."""
    code, *_ = videozoo(
        'complete',
        '--model_name',
        'mae_t14_st',
        '--img_size',
        '112',
        '--mask_ratio',
        '0.5',
        '--mask_type',
        'center',
        '--video_dir',
        PANS,
        '--num_vids',
        '2',
        '--device',
        'cpu',
        model='mae_t14_st',
    )
    assert code == 0 and len(list((tmp_path / 'completions').glob('*_center50.jpg'))) == 2
    code, *_ = videozoo(
        'attend', '--model_name', 'vit_t14_st', '--img_size', '84', '--video_dir', PANS, '--num_vids=1', '--device=cpu'
    )
    assert code == 0 and len(list((tmp_path / 'attention').glob('*.jpg'))) == 1


def test_long_rows_go_into_bands():
    tiles = torch.linspace(0, 1, 70).view(70, 1, 1, 1).expand(70, 3, 40, 40)
    grid = Grid([('first', tiles), ('second', 1 - tiles)], [f'{k}' for k in range(70)], 'two\nlines')
    picture = np.array(grid.image)
    for k in (0, 31, 32, 69):
        for row, value in ((0, k / 69), (1, 1 - k / 69)):
            left, top, right, bottom = grid.box(row, k)
            assert np.abs(picture[top:bottom, left:right].astype(float) - 255 * value).max() <= 1
    assert grid.image.width < 32 * 44 + 150


def test_drawing_videos(videozoo, tmp_path):
    def drawn(seed, number=2):
        for path in (tmp_path / 'attention').glob('*'):
            path.unlink()
        code, _, err = videozoo('attend', PANS, '--num-vids', number, '--seed', seed)
        return sorted(path.name.split('_')[0] for path in (tmp_path / 'attention').glob('*.jpg')), code, err

    choices = [drawn(seed)[0] for seed in range(4)]
    assert all(len(choice) == 2 for choice in choices) and len({tuple(choice) for choice in choices}) > 1
    assert drawn(0)[0] == choices[0]
    names, code, err = drawn(0, number=9)
    assert len(names) == 4 and code == 0 and '4 files found, fewer than --num-vids 9: all are taken' in err


def test_pictures_of_files_of_one_name_do_not_overwrite_each_other(tmp_path):
    from videozoo_timm.cli.inputs import unique_stems

    paths = ['a/x.mp4', 'b/x.mp4', 'b/x.mkv', 'b/y.mp4', 'a/c/x.mp4']
    stems = unique_stems(paths)
    assert len(set(stems)) == 5 and stems[3] == 'y' and all('/' not in stem for stem in stems)
    assert unique_stems(['x.mkv', 'x.mp4']) == ['x.mkv', 'x.mp4']


# Attention


def test_attention_maps_follow_the_published_arithmetic(vit):
    clip = clip_of(CAT)
    with torch.no_grad():
        rows = vit.get_last_selfattention(clip.unsqueeze(0))[0, :, 0, 1:].view(4, 8, 8, 8)  # [heads, T', H', W']
    want = F.interpolate(rows.mean(0).unsqueeze(1).repeat(1, 3, 1, 1), (112, 112), mode='nearest-exact')[:, 0]
    result = attend(vit, clip)
    maps = result.maps()
    torch.testing.assert_close(maps[::2], want, rtol=1e-5, atol=0)
    assert torch.equal(maps[::2], maps[1::2]) and maps.shape == (16, 112, 112)  # both frames of a tubelet
    apart = F.interpolate(rows.flatten(0, 1).unsqueeze(1), (112, 112), mode='nearest-exact').view(4, 8, 112, 112)
    torch.testing.assert_close(result.maps(heads=True)[:, ::2], apart, rtol=1e-5, atol=0)
    torch.testing.assert_close(result.frames, denormalize(clip, 0.45, 0.225).transpose(0, 1))
    assert result.block == 4 and not torch.equal(attend(vit, clip, block=1).weights, result.weights)


def test_attention_memory_is_linear_in_the_tokens():
    class Largest(TorchDispatchMode):
        numel = 0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            result = func(*args, **(kwargs or {}))
            outputs = result if isinstance(result, (tuple, list)) else [result]
            self.numel = max([self.numel, *(x.numel() for x in outputs if isinstance(x, torch.Tensor))])
            return result

    model = timm.create_model('vit_t14_st', num_frames=64, num_classes=0).eval()
    num_tokens = 1 + 32 * 8 * 8
    with Largest() as largest:
        attend(model, torch.randn(3, 64, 112, 112))
    assert largest.numel < num_tokens**2
    with Largest() as largest, torch.no_grad():
        model.get_last_selfattention(torch.randn(1, 3, 64, 112, 112))
    assert largest.numel >= num_tokens**2  # so the measure works


def test_a_threshold_keeps_the_smallest_set_of_patches():
    torch.manual_seed(0)
    weights = torch.rand(3, 2, 4, 4).softmax(-1)
    for share in (0.01, 0.3, 0.6, 1.0):
        kept = keep_fraction(weights, share)
        for ours, theirs in zip(kept.flatten(1), weights.flatten(1), strict=True):
            values = sorted(theirs.tolist(), reverse=True)
            number = next(n for n in range(1, 33) if sum(values[:n]) >= share * sum(values) - 1e-9)
            assert (ours > 0).sum() == number and torch.equal(ours[ours > 0], theirs[ours > 0])
            assert ours[ours > 0].min() >= theirs[ours == 0].max() if number < 32 else True


def test_attend(videozoo, tmp_path):
    assert videozoo('attend', CAT)[0] == 0
    assert videozoo('attend', CAT, '--heads', '--block', '1', '--threshold', '0.6')[0] == 0
    code, _, err = videozoo('attend', CAT, '--img-size', '140', '--num-frames', '8', '--dtype', 'bfloat16')
    assert code == 0 and 'a digest is in the names of 1 of 1 picture,' in err
    (other,) = (tmp_path / 'attention').glob('cat_vit_t14_st_attention_block4_*.jpg')
    other.rename(tmp_path / other.name)
    Image.open(CLIPS.parent.parent / 'docs' / 'static' / 'clip.jpg').save(tmp_path / 'still.png')
    assert videozoo('attend', 'still.png')[0] == 0
    assert sorted(path.name for path in (tmp_path / 'attention').glob('*.jpg')) == [
        'cat_vit_t14_st_attention_block1_heads_top60.jpg',
        'cat_vit_t14_st_attention_block4.jpg',
        'still_vit_t14_st_attention_block4.jpg',
    ]
    code, _, err = videozoo('attend', CAT, '--block', '5')
    assert code == 2 and '--block 5: the model has 5 blocks' in err
    code, _, err = videozoo('attend', CAT, '--threshold', '60')
    assert code == 2 and '--threshold 60.0' in err


# Feature maps


def test_pca_is_joint_exact_and_of_fixed_sign():
    rng = torch.Generator().manual_seed(0)
    files = [torch.randn(2, 4, 4, 16, generator=rng) * torch.linspace(1, 3, 16) for _ in range(3)]
    colors = pca_colors(files)
    assert [c.shape for c in colors] == [(2, 3, 4, 4)] * 3
    flat = torch.cat([f.flatten(0, 2) for f in files]).double().numpy()
    flat = flat - flat.mean(0)
    vectors = np.linalg.svd(flat, full_matrices=False)[2][:3].T
    vectors *= np.sign(vectors[np.abs(vectors).argmax(0), range(3)])
    scores = flat @ vectors
    low, high = (np.sort(scores, axis=0)[round(share * (len(scores) - 1))] for share in (0.01, 0.99))
    want = np.clip((scores - low) / (high - low), 0, 1)
    ours = torch.cat([c.movedim(1, -1).flatten(0, 2) for c in colors])
    np.testing.assert_allclose(ours, want, atol=1e-5)
    assert all(torch.equal(a, b) for a, b in zip(colors, pca_colors(files), strict=True))


def test_foreground_is_what_the_borders_lack():
    tokens = torch.randn(2, 8, 8, 16, generator=torch.Generator().manual_seed(0)) * 0.1
    tokens[:, 2:6, 2:6] += 2
    for sign in (1, -1):
        (colors,) = pca_colors([sign * tokens], foreground=0.5)
        shown = (colors > 0).any(dim=1)
        assert shown[:, 2:6, 2:6].all() and shown.sum() == 32
        (inverted,) = pca_colors([sign * tokens], foreground=0.5, invert=True)
        assert (inverted > 0).any(dim=1).sum() == 128 - 32
    with pytest.raises(ValueError, match='leaves 0 of 128'):
        pca_colors([tokens], foreground=1.0)


def test_pca(videozoo, tmp_path):
    code, out, _ = videozoo('pca', PANS, '--foreground', '0.3')
    assert code == 0 and 'pca: 4 pictures, one PCA of block 4' in out
    assert videozoo('pca', CAT, '--block', '1')[0] == 0
    assert videozoo('pca', CAT, '--foreground', '0.3', '--invert')[0] == 0
    assert len(list((tmp_path / 'pca').glob('*.jpg'))) == 6
    names = {path.name for path in (tmp_path / 'pca').glob('cat*')}
    assert names == {
        f'cat_vit_t14_st_pca_{end}.jpg' for end in ('block1', 'block4_foreground30', 'block4_foreground30inverted')
    }
    code, _, err = videozoo('pca', CAT, '--foreground', '50')
    assert code == 2 and '--foreground 50.0' in err


def test_what_cannot_be_read_is_left_out_of_pictures(videozoo, tmp_path):
    for command, model in (('complete', 'mae_t14_st'), ('attend', 'vit_t14_st'), ('pca', 'vit_t14_st')):
        code, _, err = videozoo(command, CLIPS / 'odd', model=model)
        assert code == 1 and '4 of 12 files could not be read' in err and 'truncated.mp4: truncated' in err
        code, _, err = videozoo(command, CLIPS / 'odd' / 'empty.mp4', '--out', 'nothing', model=model)
        assert code == 2 and 'empty.mp4: the file is empty' in err and not (tmp_path / 'nothing').exists()
    assert len(list((tmp_path / 'completions').glob('*.jpg'))) == 8


# Embeddings


@pytest.mark.parametrize('norm', [False, True])
def test_features_of_blocks_are_what_hooks_see(vit, norm):
    seen, hooks = {}, []
    for index in (1, 4):
        hooks.append(
            vit.blocks[index].register_forward_hook(
                lambda module, args, output, index=index: seen.__setitem__(index, output)
            )
        )
    x = clip_of(CAT, sampling=RECOGNITION).unsqueeze(0)
    with torch.no_grad():
        vit(x)
    for hook in hooks:
        hook.remove()
    tokens = torch.stack([vit.norm(seen[i]) if norm else seen[i] for i in (4, 1)], dim=1).detach()  # [1, K, 1 + N, C]
    options = dict(blocks=[-1, 1], norm=norm)
    result = embed(vit, [CAT], **options)
    torch.testing.assert_close(result.features, tokens[:, :, 0])
    assert result.blocks == [4, 1]
    torch.testing.assert_close(embed(vit, [CAT], tokens='mean', **options).features, tokens[:, :, 1:].mean(2))
    everything = embed(vit, [CAT], tokens='all', **options).features
    torch.testing.assert_close(everything, tokens[:, :, 1:].unflatten(2, (8, 8, 8)))


def test_features_without_blocks_are_the_end_of_the_model(vit):
    x = clip_of(CAT, sampling=RECOGNITION).unsqueeze(0)
    with torch.no_grad():
        tokens = vit.forward_features(x)
    torch.testing.assert_close(embed(vit, [CAT]).features, tokens[:, 0])
    torch.testing.assert_close(embed(vit, [CAT], tokens='mean').features, tokens[:, 1:].mean(1))
    torch.testing.assert_close(embed(vit, [CAT], tokens='all').features, tokens[:, 1:].unflatten(1, (8, 8, 8)))


def test_features_of_images(vit, tmp_path):
    Image.open(CLIPS.parent.parent / 'docs' / 'static' / 'clip.jpg').save(tmp_path / 'still.png')
    still = str(tmp_path / 'still.png')
    assert embed(vit, [still], tokens='all').features.shape == (1, 8, 8, 128)
    result = embed(vit, [still])
    assert result.features.shape == (1, 128) and result.end.tolist() == [0.0]
    with pytest.raises(ValueError, match='videos and images'):
        embed(vit, [still, CAT])


def test_batches_never_depend_on_other_groups(vit):
    views = views_of(vit, num_clips=3)
    assert [group.files for group in groups_of(5, views, 6)] == [[0, 1], [2, 3], [4]]
    assert [group.files for group in groups_of(3, views, 2)] == [[0], [1], [2]]
    course = Views(size=112, mean=(0.45,), std=(0.225,), stride=1.0)
    assert [group.files for group in groups_of(3, course, 4)] == [[0], [1], [2]]


@pytest.mark.parametrize(
    'options, words',
    [
        (dict(blocks=[5]), r'blocks=\[5\]: the model has blocks 0 to 4'),
        (dict(blocks=[4, -1]), 'names a block twice'),
        (dict(blocks=[]), 'the model has blocks'),
        (dict(tokens='cls'), "got 'cls'"),
        (dict(batch_size=0), 'batch_size=0'),
        (dict(stride=-1.0), 'stride'),
    ],
)
def test_options_that_cannot_be(vit, options, words):
    with pytest.raises(ValueError, match=words):
        embed(vit, [CAT], **options)


def test_time_course(videozoo, tmp_path):
    code, out, _ = videozoo('embed', PANS / 'things', '--stride', '0.5', '--align', 'causal', '--out', 'course.npz')
    result = np.load(tmp_path / 'course.npz')
    assert code == 0 and str(len(result['features'])) in out
    for index, path in enumerate(result['paths']):
        mine = result['video_index'] == index
        assert np.allclose(result['time'][mine], 0.5 * np.arange(mine.sum()))
        (duration,) = set(result['duration'][mine])
        assert mine.sum() == math.floor((duration + 1 / 60) / 0.5) + 1 and 'things' in path
    assert np.allclose(result['end'], result['time']) and np.allclose(result['end'] - result['start'], 128 / 30)
    assert json.loads(str(result['settings']))['views']['align'] == 'causal'


def test_every_format_holds_the_same(videozoo, tmp_path):
    from safetensors.torch import load_file

    for name in ('a.npz', 'a.safetensors', 'a'):
        assert videozoo('embed', PANS, '--blocks', '0,-1', '--num-clips', '2', '--out', name)[0] == 0
        assert videozoo('embed', PANS, '--blocks', '0,-1', '--num-clips', '2', '--out', name)[0] == 0  # its own result
        for other in ([PANS, '--blocks', '0,-1'], [CAT, '--blocks', '-5,-1', '--num-clips', '2']):
            code, _, err = videozoo('embed', *other, '--out', name)
            assert code == 2 and 'holds the results of another run' in err and 'or --force replaces them' in err, err
    arrays, tensors = np.load(tmp_path / 'a.npz'), load_file(tmp_path / 'a.safetensors')
    assert arrays['features'].shape == (8, 2, 128) and arrays['blocks'].tolist() == [0, 4]
    for name, tensor in tensors.items():
        assert np.array_equal(arrays[name], tensor)
        assert np.array_equal(arrays[name], np.load(tmp_path / 'a' / f'{name}.npy'))
    mapped = np.load(tmp_path / 'a' / 'features.npy', mmap_mode='r')
    assert isinstance(mapped, np.memmap) and mapped.dtype == np.float32
    about = json.loads((tmp_path / 'a' / 'about.json').read_text())
    assert about['paths'] == arrays['paths'].tolist() and about['model'] == str(arrays['model'])
    (tmp_path / 'mine').mkdir()
    (tmp_path / 'mine' / 'notes.txt').touch()
    code, _, err = videozoo('embed', CAT, '--out', 'mine')
    assert code == 2 and 'mine holds other things than features (notes.txt); name another --out' in err
    (tmp_path / 'a' / 'notes.txt').touch()
    assert videozoo('embed', CAT, '--out', 'a', '--force')[0] == 2 and (tmp_path / 'a' / 'notes.txt').exists()
    assert not [path for path in tmp_path.iterdir() if path.name.startswith('.')]


def test_missing_libraries_say_what_to_install(tmp_path, weights):
    code = """
import sys
sys.modules['matplotlib'] = None
from videozoo_timm.cli import main
sys.exit(main(sys.argv[1:]))
"""
    done = subprocess.run(
        [
            sys.executable,
            '-c',
            code,
            'attend',
            CAT,
            '--model',
            'vit_t14_st',
            '--weights',
            weights / 'vit_t14_st.safetensors',
            '--num-workers',
            '0',
        ],
        cwd=tmp_path,
        text=True,
        capture_output=True,
        env=dict(os.environ, PYTHONPATH=str(REPOSITORY)),
    )
    assert done.returncode == 2 and "pip install 'videozoo-timm[pictures]'" in done.stderr
