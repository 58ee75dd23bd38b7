"""Drawn videos, and the models that come with the package: what they can do, on videos drawn here."""

import os

import pytest
import timm
import torch
from conftest import CLIPS, REPOSITORY
from forked_python import run_forked
from timm.models import get_pretrained_cfg

import videozoo_timm
from videozoo_timm import catalogue
from videozoo_timm.analysis.completion import complete
from videozoo_timm.analysis.evaluation import class_folders, evaluate
from videozoo_timm.cli import main
from videozoo_timm.inference.pipeline import views_of
from videozoo_timm.synthetic import DURATION, MOTIONS, make_scene
from videozoo_timm.video import COMPLETION, Job, find_videos, probe, read_clip, read_clips, read_views

HELD_OUT = 20261121  # a seed that nothing was trained with: those are in examples/make_shapes.sh


@pytest.fixture(scope='module')
def mae():
    return videozoo_timm.load_model('mae_shapes_none')


def psnr(errors):
    """Of all pixels together, in dB."""
    return -10 * torch.cat([error.flatten() for error in errors]).double().square().mean().log10().item()


@pytest.fixture(scope='module')
def completed(mae):
    """Of each mask the PSNR of all dropped pixels: ours, of the visible mean, of the nearest visible frame."""
    result = {}
    paths = [str(path) for path in find_videos(f'drawn:144@{HELD_OUT}')[::9]]  # 16 scenes, all motions
    views = views_of(mae, COMPLETION)
    clips = [next(read_views(Job(0, path), views)).x for path in paths]
    for mask_type, ratio in (('random', 0.9), ('center', 0.5), ('center', 0.75), ('temporal', 0.5)):
        ours, by_mean, by_copy = [], [], []
        for k, clip in enumerate(clips):
            done = complete(mae, clip, mask_type=mask_type, mask_ratio=ratio, seed=k)
            dropped = done.mask.repeat_interleave(2, 0).repeat_interleave(14, 1).repeat_interleave(14, 2)  # [T, H, W]
            ours.append((done.completed - done.original)[:, dropped])
            by_mean.append(done.original[:, dropped] - done.original[:, ~dropped].mean(dim=1, keepdim=True))
            by_copy.append((nearest_visible(done.original, dropped) - done.original)[:, dropped])
        result[mask_type, ratio] = [psnr(ours), psnr(by_mean), psnr(by_copy)]
    return result


def nearest_visible(frames, dropped):
    """Each dropped pixel from the frame nearest in time that shows it: [3, T, H, W], [T, H, W] -> [3, T, H, W]."""
    filled = frames.clone()
    times = torch.arange(len(dropped))
    distance = (times.view(-1, 1) - times).abs().view(len(times), len(times), 1, 1).float()
    distance = distance.masked_fill(dropped.unsqueeze(0), 1e9)  # [to, from, H, W]
    source = distance.argmin(dim=1)  # [T, H, W]
    for t in times:
        filled[:, t] = frames.gather(1, source[t].expand(3, 1, -1, -1)).squeeze(1)
    return filled


def test_masked_pixels_are_filled_in_far_better_than_by_the_mean(completed):
    ours, by_mean, _ = completed['random', 0.9]
    assert ours >= by_mean + 3
    for (mask_type, _), (ours, by_mean, _) in completed.items():
        assert ours > by_mean + 1, mask_type


def test_a_missing_middle_is_filled_in_better_than_by_the_nearest_frame(completed):
    for ratio in (0.5, 0.75):
        ours, _, by_copy = completed['center', ratio]
        assert ours > by_copy


def test_motions_are_named():
    model = videozoo_timm.load_model('vit_shapes_motion')
    result = evaluate(model, class_folders(f'drawn:120@{HELD_OUT}'), batch_size=16)
    assert result.top(1) >= 0.9
    assert tuple(model.pretrained_cfg['label_names']) == MOTIONS == tuple(result.classes)


def test_the_shipped_models_are_small_and_load_offline_through_three_doors(tmp_path):
    files = [c.packaged for c in catalogue.CHECKPOINTS if c.packaged]
    assert len(files) == 2 and sum(file.stat().st_size for file in files) <= 8e6
    assert all(generator.num_bytes <= 8e6 for generator in catalogue.video_generators())
    for name in ('mae_t14_st.shapes', 'vit_t14_st.shapes_motion'):
        assert name in timm.list_pretrained() and get_pretrained_cfg(name).license == 'mit'
    code = """
import socket
socket.socket.connect = None
import sys, timm, torch, videozoo_timm
x = torch.randn(1, 3, 16, 112, 112)
for name, tag in (('mae_shapes_none', 'mae_t14_st.shapes'), ('vit_shapes_motion', 'vit_t14_st.shapes_motion')):
    models = [videozoo_timm.load_model(name), torch.hub.load(sys.argv[1], name, source='local'),
              *(timm.create_model(n, pretrained=True).eval() for n in (tag, tag.split('.')[0]))]
    outputs = [model.forward_features(x) for model in models]
    assert all(torch.equal(outputs[0], other) for other in outputs), name
    assert not models[0].training and next(models[0].parameters()).dtype == torch.float32
generator = videozoo_timm.load_model('gen_shapes_64')
other = torch.hub.load(sys.argv[1], 'gen_shapes_64', source='local')
assert all(torch.equal(*pair) for pair in zip(generator.parameters(), other.parameters()))
assert not generator.training and generator.gpt.head.weight.dtype == torch.float32
"""
    env = dict(os.environ, PYTHONPATH=str(REPOSITORY), HF_HUB_OFFLINE='1', TORCH_HOME=str(tmp_path))
    done = run_forked([REPOSITORY], code, env, tmp_path)
    assert done.returncode == 0, done.stderr


def test_every_command_without_a_model_takes_the_shipped_one_and_says_so(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    cat = str(CLIPS / 'pans' / 'things' / 'cat.mp4')
    names = dict(complete='mae_shapes_none', reconstruct='gen_shapes_64', generate='gen_shapes_64')
    given = dict(evaluate=['drawn:8'], generate=['-n', '1', '--out', 'sample.gif'])
    for command in ('complete', 'attend', 'pca', 'embed', 'classify', 'evaluate', 'reconstruct', 'generate'):
        name = names.get(command, 'vit_shapes_motion')
        assert main([command, *given.get(command, [cat, 'drawn:1']), '--num-workers', '0']) == 0
        assert f'no --model, so the small one that comes with this package is taken: {name}' in capsys.readouterr().err
    surprise = ['surprise', 'drawn:1', '--score', 'nll', '--num-workers', '0', '--no-pictures']
    assert main(surprise) == 0 and 'is taken: gen_shapes_64' in capsys.readouterr().err
    capsys.readouterr()
    for out in ('sample.gif', 'reconstructions', 'surprise'):
        assert main(['methods', out]) == 0 and 'We used the generator gen_shapes_64' in capsys.readouterr().out
    assert len(list((tmp_path / 'completions').glob('*_mae_shapes_none_random90.jpg'))) == 2
    for command in (
        ['complete', cat, '--zoo', 'hvm-1'],
        ['generate', '--zoo', 'silicon-menagerie'],
        ['generate', '--complete', '.'],
    ):
        assert main(command) == 2 and 'with --model' in capsys.readouterr().err


def test_a_video_is_the_same_whenever_it_is_drawn():
    times = [0.0, 1.0, 4.0]
    frames = make_scene(3, 5, 'left').render(times, 64)
    assert frames.shape == (3, 64, 64, 3) and frames.dtype == torch.uint8
    assert torch.equal(frames, make_scene(3, 5, 'left').render(times, 64))
    assert torch.equal(frames[1:2], make_scene(3, 5, 'left').render(times[1:2], 64))
    others = [make_scene(4, 5, 'left'), make_scene(3, 6, 'left'), make_scene(3, 5, 'right')]
    assert not any(torch.equal(frames, other.render(times, 64)) for other in others)
    assert make_scene(3, 5).motion in MOTIONS


def test_videos_of_one_number_differ_in_their_motion_alone():
    for number in range(5):
        times = torch.tensor([DURATION / 2, 3.5])
        still = make_scene(3, number, 'still')
        for motion in set(MOTIONS) - {'still'}:
            moving = make_scene(3, number, motion)
            assert [(a.shape, a.texture) for a in moving.layers] == [(b.shape, b.texture) for b in still.layers]
            middle, later = (moving.render(times, 64).float() - still.render(times, 64)).abs().amax(dim=(1, 2, 3))
            assert later > 8 and (middle <= 2 or motion in ('grow', 'shrink'))
    assert make_scene(3, 5, 'still').layers[0].texture != still.layers[0].texture


@pytest.mark.parametrize('motion', MOTIONS)
def test_shapes_do_what_their_class_says(motion):
    t = torch.tensor([DURATION / 2 - 0.1, DURATION / 2 + 0.1])  # nothing is out of the frame in the middle
    always = torch.tensor([0, DURATION])
    for number in range(20):
        scene = make_scene(1, number, motion)
        large = [layer.place(t) for layer in scene.layers if layer.shape and layer.place(always)[2].max() > 0.1]
        matching = 0
        for x, y, radius, angle, _ in large:
            dx, dy, growth, turn = (float(value[1] - value[0]) for value in (x, y, radius, angle))
            is_so = dict(
                left=dx < 0 == dy,
                right=dx > 0 == dy,
                up=dy < 0 == dx,
                down=dy > 0 == dx,
                grow=growth > 0,
                shrink=growth < 0,
                rotate=abs(turn) > 0.1,
                still=dx == dy == growth == turn == 0,
            )
            matching += is_so[motion]
        assert matching >= 1 and matching >= len(large) - 1  # one may be an occluder, which stands still


def test_drawn_names_are_read_as_files_are():
    paths = find_videos(['drawn:10@7', 'drawn:3@7'])
    assert len(paths) == 10 and str(paths[2]) == 'drawn:7/left/000000' and str(paths[9]) == 'drawn:7/grow/000001'
    assert probe(paths[0]).duration == DURATION
    clip = read_clip(paths[0])
    assert clip.frames.shape == (16, 128, 128, 3) and clip.end - clip.start == 128 / 30
    two = list(read_clips(paths[0], [0.0, 1.0], sampling=COMPLETION))
    assert torch.equal(two[1].frames, read_clip(paths[0], start=1.0, sampling=COMPLETION).frames)
    assert torch.equal(two[1].frames, next(read_clips(paths[0], [0.0, 1.0], sampling=COMPLETION, skip=1)).frames)
    folders = class_folders('drawn:16@7')
    assert folders.classes == list(MOTIONS) and folders.targets == [*range(8), *range(8)]
    for wrong in ('drawn:', 'drawn:x', 'drawn:0', 'drawn:7/sideways/1/2'):
        with pytest.raises(ValueError, match='drawn:100@7'):
            find_videos(wrong)
    with pytest.raises(ValueError, match="no motion 'sideways'"):
        read_clip('drawn:7/sideways/000001')


def test_videos_are_drawn_into_class_folders(tmp_path, capsys):
    assert main(['draw', '--out', str(tmp_path / 'drawn'), '--num', '9', '--seed', '5', '--size', '64']) == 0
    assert '9 videos in 8 folders' in capsys.readouterr().out
    paths = find_videos(tmp_path / 'drawn')
    assert sorted({path.parent.name for path in paths}) == list(MOTIONS) and len(paths) == 9
    info = probe(paths[0])
    assert (info.width, info.height, info.fps) == (64, 64, 30) and abs(info.duration - DURATION) < 0.05
    file = tmp_path / 'drawn' / 'left' / '5_000000.mp4'
    ours, drawn = read_clip(file).frames, make_scene(5, 0, 'left')
    start = read_clip(file).start
    truth = drawn.render([start + k / 30 for k in range(0, 128)], 64)[[k * 127 // 15 for k in range(16)]]
    assert psnr([(ours.float() - truth.float()) / 255]) > 28
    before = file.read_bytes()
    again = ['draw', '--out', str(tmp_path / 'drawn'), '--num', '1', '--seed', '5', '--motion', 'left']
    assert main([*again, '--size', '32']) == 2 and file.read_bytes() == before
    assert 'something else than a video of 32 x 32 pixels; name another --out' in capsys.readouterr().err
    assert main([*again, '--size', '64']) == 0  # its own
    assert main(['draw', '--out', str(tmp_path / 'some'), '--num', '16', '--motion', 'up', '--size', '32']) == 0
    assert len(find_videos(tmp_path / 'some')) == 16
    assert main(['draw', '--out', str(tmp_path / 'odd'), '--size', '33']) == 2 and not (tmp_path / 'odd').exists()


def test_the_number_of_threads_does_not_matter():
    before, clips = torch.get_num_threads(), []
    try:
        for number in (1, 2):
            torch.set_num_threads(number)
            clips += [[read_clip(path).frames for path in find_videos('drawn:8')]]
    finally:
        torch.set_num_threads(before)
    assert all(map(torch.equal, *clips))
