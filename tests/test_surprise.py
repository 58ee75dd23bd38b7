"""Surprise: scores against a plain loop, windows, batches, runs that go on, pictures, the command."""

import csv
import json
import math

import numpy as np
import pytest
import timm
import torch
from conftest import TINY_MAE, published
from test_video import write_video
from test_video_generators import gpt_of, vqgan_of

import videozoo_timm
from videozoo_timm.analysis import surprise
from videozoo_timm.analysis import surprise_scores as scores
from videozoo_timm.cli import main
from videozoo_timm.inference.journal import journal_folder
from videozoo_timm.models import VideoGenerator
from videozoo_timm.models.generator_files import save_video_generator
from videozoo_timm.video import VideoError, Views, prepare_clip, read_clip, sliding

FILM = 'drawn:3/left/000001'
PIXELS = dict(mean=(0.45,) * 3, std=(0.225,) * 3)


@pytest.fixture(scope='module')
def model():
    overlay = dict(state_dict=published('video_mae_tiny'))
    return timm.create_model('mae_t14_st', pretrained=True, pretrained_cfg_overlay=overlay, **TINY_MAE).eval()


@pytest.fixture(autouse=True)
def no_grad():
    with torch.no_grad():
        yield


def windows_of(path, step, stride=2, offset=0.0, num_frames=16):
    """The windows of a film of 4.5 seconds, each frame read alone, normalized and in [0, 1]: [W, C, T, H, W]."""
    number = math.ceil((4.5 - offset) * 30 / step - 1e-6)
    clips, starts = [], list(range(0, max(number - num_frames, 1), stride))
    for start in starts:
        frames = [
            read_clip(path, sampling=videozoo_timm.video.Sampling(1, 1), start=offset + (start + k) * step / 30).frames
            for k in range(num_frames)
        ]
        clips.append(prepare_clip(torch.cat(frames), 56, **PIXELS))
    return [offset + start * step / 30 for start in starts], torch.stack(clips)


def plain_score(model, x, masks, score, norm, predict):
    """The mean over masks of the error of one window [C, T, H, W], token by token, and the errors of the tokens."""
    totals, errors = [], {}
    for mask in masks:
        target = model.patchify(x[None])[0]  # [N, P]
        expected = predict(mask, target)
        one = []
        for n in mask.nonzero().flatten().tolist():
            a, b = expected[n].double(), target[n].double()
            if score == 'l1':
                parts = []
                for channel in range(3):
                    scaled = []
                    for tubelet in (a, b):
                        pixels = tubelet.view(-1, 3)[:, channel] * 0.225 + 0.45
                        scaled.append((pixels - pixels.mean()) / (pixels.std() + 1e-6))
                    parts.append((scaled[0] - scaled[1]).abs().mean() if predict.scales else scaled[1].abs().mean())
                one.append(torch.stack(parts).mean())
            else:
                if norm:
                    b = (b - b.mean()) / (b.var() + 1e-6).sqrt()
                    a = (a - a.mean()) / (a.var() + 1e-6).sqrt() if predict.is_pixels else a
                one.append((a - b).square().mean())
            errors.setdefault(n, []).append(one[-1].item())
        totals.append(torch.stack(one).mean().item())
    return np.mean(totals), {n: np.mean(values) for n, values in errors.items()}


class Predict:
    """A prediction [N, P] under a mask; `scales` unless it is on the compared scale already."""

    def __init__(self, function, scales=True, is_pixels=False):
        self.function, self.scales, self.is_pixels = function, scales, is_pixels

    def __call__(self, mask, target):
        return self.function(mask, target)


def predictions(model, x, context):
    yield 'model', Predict(lambda mask, target: model(x[None], mask=mask.view(1, 8, 4, 4))[1][0])
    yield 'zero', Predict(lambda mask, target: torch.zeros_like(target), scales=False)
    if context:
        still = x[:, context - 1 : context].expand(-1, 16, -1, -1)
        yield 'copy', Predict(lambda mask, target: model.patchify(still[None])[0], is_pixels=True)


RANDOM = dict(mask_type='random', mask_ratio=0.8, num_masks=3, seed=5)


@pytest.mark.parametrize(
    ('options', 'norm'),
    [
        (dict(), False),
        (dict(norm_pix_loss=True, frame_step=2, stride=20, offset=1.1), True),
        (dict(score='l1', contexts=(4, 14)), False),
        (RANDOM, False),
        (dict(RANDOM, score='l1', num_masks=1), False),
        (dict(mask_type='temporal', mask_ratio=0.9), False),
        (dict(mask_type='center', frames='reversed'), False),
    ],
    ids=lambda value: '-'.join(f'{v}' for v in value.values()) if isinstance(value, dict) else '',
)
def test_scores_are_those_of_a_plain_loop(model, options, norm):
    result = surprise(model, FILM, maps=True, **options)
    series = result.series[0]
    step, stride, offset = options.get('frame_step', 4), options.get('stride', 2), options.get('offset', 0.0)
    starts, clips = windows_of(FILM, step, stride, offset)
    if options.get('frames') == 'reversed':
        clips = clips.flip(2)
    assert series.starts == pytest.approx(starts) and len(starts) > 1
    assert series.ends == pytest.approx([start + 16 * step / 30 for start in starts])
    kind, count = options.get('mask_type', 'context'), options.get('num_masks', 1)
    contexts = options.get('contexts', (2, 4, 6, 8, 10)) if kind == 'context' else (0,)
    assert series.scores.shape == (len(starts), len(contexts))
    for w in (0, len(starts) - 1):
        for k, context in enumerate(contexts):
            masks = [torch.arange(8).repeat_interleave(16) >= context // 2]
            if kind != 'context':
                masks = []
                for number in range(count):
                    generator = torch.Generator().manual_seed(options.get('seed', 0) + number)
                    noise = torch.rand(1, 128, generator=generator) if kind == 'random' else None
                    ratio = options.get('mask_ratio', 0.9)
                    masks.append(model(clips[:1], mask_ratio=ratio, mask_type=kind, noise=noise)[2][0].bool())
            for name, predict in predictions(model, clips[w], context):
                wanted, errors = plain_score(model, clips[w], masks, options.get('score', 'mse'), norm, predict)
                got = series.scores if name == 'model' else series.baselines[name]
                assert got[w, k].item() == pytest.approx(wanted, rel=2e-5), name
                if name == 'model':
                    flat = series.maps[w, k].flatten()
                    assert flat[list(errors)].tolist() == pytest.approx(list(errors.values()), rel=1e-4)
                    assert flat.count_nonzero() == len(errors)
    assert set(series.baselines) == ({'zero', 'copy'} if kind == 'context' else {'zero'})


def test_the_score_is_the_published_loss(model):
    series = surprise(model, FILM, contexts=[6], batch_size=3).series[0]
    _, clips = windows_of(FILM, 4)
    mask = (torch.arange(8) >= 3).view(1, 8, 1, 1).expand(1, 8, 4, 4)
    losses = [model(clip[None], mask=mask)[0].item() for clip in clips]
    assert series.scores[:, 0].tolist() == pytest.approx(losses, rel=1e-5)


def test_batched_is_one_at_a_time(model):
    films = ['drawn:3/left/000001', 'drawn:3/grow/000002']
    one, many = (surprise(model, films, batch_size=size, stride=1, **RANDOM) for size in (1, 7))
    for a, b in zip(one.series, many.series, strict=True):
        assert torch.allclose(a.scores, b.scores, rtol=1e-6) and a.starts == b.starts and len(a.starts) == 18


def test_a_frame_is_prepared_once_and_read_as_if_alone(model, tmp_path, monkeypatch):
    from videozoo_timm.video import views

    film = write_video(tmp_path / 'x.mkv', 40, fps=15)
    prepared = []
    monkeypatch.setattr(
        views,
        'prepare_clip',
        lambda frames, *args, **how: prepared.append(len(frames)) or prepare_clip(frames, *args, **how),
    )
    frames = []
    monkeypatch.setattr(scores.MaskedScores, '__call__', _keeping(frames, scores.MaskedScores.__call__))
    surprise(model, film, frame_step=1, frame_rate=None, stride=3, contexts=[4], batch_size=2)
    assert sum(prepared) == 16 + 7 * 3  # 8 windows: 0, 3, ..., 21
    whole = prepare_clip(read_clip(film, sampling=videozoo_timm.video.Sampling(40, 79), start=0).frames, 56, **PIXELS)
    for w, x in enumerate(torch.cat(frames)):
        assert torch.equal(x, whole[:, 3 * w : 3 * w + 16])


def _keeping(kept, call):
    def called(self, x, maps=False):
        kept.append(x.clone())  # a buffer, which serves the next batch too
        return call(self, x, maps)

    return called


def test_the_windows_are_the_published_ones():
    own = Views(56, **PIXELS)
    windows = sliding(own, 2 / 15, 2)
    starts = windows.starts(100 / 15)
    assert len(starts) == 17 and starts[16] == pytest.approx(32 * 2 / 15)
    assert len(windows.starts(16 * 2 / 15)) == 1  # the only one, though it ends with the film
    with pytest.raises(ValueError, match=r'lasts 2.00 s, which is shorter than a window of 16 frames 0.133 s apart'):
        windows.starts(15.5 * 2 / 15 - 1 / 15)


def test_what_the_model_has_seen_it_does_not_see_again(model, tmp_path, monkeypatch):
    x = torch.rand(4, 3, 16, 56, 56)
    x[2] = x[0]
    x[3, :, :4] = x[1, :, :4]  # alike in what is visible alone
    rows = []
    encode = model.forward_encoder
    monkeypatch.setattr(model, 'forward_encoder', lambda x, **how: rows.append(len(x)) or encode(x, **how))
    scorer = scores.MaskedScores(model, contexts=(4, 8))
    together = scorer(x)
    assert rows == [2, 3]
    assert torch.allclose(together, torch.cat([scorer(one[None]) for one in x]), rtol=1e-5)


def test_windows_that_merely_add_up_to_the_same_are_two(model):
    x = torch.randint(0, 9, (1, 3, 16, 56, 56), generator=torch.Generator().manual_seed(0)).float()
    x = torch.cat([x, x.flip(4)])  # whole numbers, so that sums have no order
    scorer = scores.MaskedScores(model, contexts=(4,))
    assert torch.allclose(scorer(x), torch.cat([scorer(one[None]) for one in x]), rtol=1e-5)


@pytest.mark.parametrize('norm', [False, True])
def test_what_is_expected_is_the_prediction_where_nothing_is_visible(model, norm):
    x = torch.randn(2, 3, 16, 56, 56, generator=torch.Generator().manual_seed(0))
    expected = scores.MaskedScores(model, contexts=(4, 12), norm_pix_loss=norm).expected(x, 1)
    mask = (torch.arange(8) >= 6).repeat_interleave(16)
    predicted = model(x, mask=mask.view(1, 8, 4, 4).expand(2, -1, -1, -1))[1][:, mask]
    if norm:
        comes = model.patchify(x)[:, mask]
        predicted = predicted * (comes.var(dim=2, keepdim=True) + 1e-6).sqrt() + comes.mean(dim=2, keepdim=True)
    assert torch.equal(expected[:, :, :12], x[:, :, :12])
    assert torch.allclose(model.patchify(expected)[:, mask], predicted, atol=1e-5)


def test_a_film_shorter_than_a_window_is_told(model):
    told = {}
    result = surprise(model, [FILM], offset=[0.0], report=told.__setitem__)
    assert len(result.series) == 1 and not told
    result = surprise(model, [FILM, FILM.replace('1', '2')], offset=[0.0, 2.5], report=told.__setitem__)
    assert [path for path, _ in result.failed] == [FILM.replace('1', '2')] == list(told)
    assert 'lasts 2.00 s from 2.5 s on, which is shorter than a window of 16 frames' in result.failed[0][1]
    with pytest.raises(VideoError, match='shorter than a window'):
        surprise(model, [FILM], frame_step=9, report=told.__setitem__)


def test_an_unreadable_film_is_told_whatever_the_frame_rate(model, tmp_path):
    (tmp_path / 'no.mp4').write_bytes(b'no film' * 99)
    film = write_video(tmp_path / 'x.mkv', 40, fps=15)
    for frame_rate in (30.0, None):
        told = {}
        films = [tmp_path / 'no.mp4', film]
        result = surprise(
            model, films, frame_rate=frame_rate, frame_step=2, contexts=[4], stride=9, report=told.__setitem__
        )
        assert [one.path for one in result.series] == [str(film)] and list(told) == [str(tmp_path / 'no.mp4')]
        assert 'no.mp4' in result.failed[0][1] and result.series[0].views.step == 2 / (frame_rate or 15)


@pytest.mark.parametrize(
    ('options', 'words'),
    [
        (
            dict(contexts=[3]),
            'context=3: the visible frames must be a multiple of 2, at least 2 and at most 14 of the 16',
        ),
        (dict(contexts=[16]), 'context=16'),
        (dict(contexts=[]), 'contexts: none is given'),
        (dict(contexts=[4, 4]), 'each once'),
        (dict(score='psnr'), "score='psnr': must be one of"),
        (dict(score='nll'), 'has no likelihood of clips; take a generator of videos'),
        (dict(score='l1', norm_pix_loss=True), 'norm_pix_loss=True is of the score mse'),
        (dict(mask_ratio=0.5), 'mask_ratio=0.5 is of other masks'),
        (dict(num_masks=3), 'num_masks=3'),
        (dict(mask_type='random', mask_ratio=0.0), 'masks nothing'),
        (dict(frame_step=0), 'frame_step=0'),
        (dict(frame_rate=0.0), 'frame_rate=0.0'),
        (dict(stride=0), 'stride=0'),
        (dict(offset=[0.0, 1.0]), '2 numbers for 1 file;'),
    ],
    ids=lambda value: '-'.join(value) if isinstance(value, dict) else '',
)
def test_invalid_options_are_told_in_words(model, options, words):
    with pytest.raises(ValueError, match=words.replace('(', r'\(')):
        surprise(model, FILM, **options)


def test_a_model_without_a_decoder_is_refused():
    with pytest.raises(ValueError, match='predicts no pixels of clips; take a masked autoencoder'):
        surprise(timm.create_model('vit_t14_st', num_classes=0, img_size=56, depth=1), FILM)


class Codes(torch.nn.Module):
    """A generator whose codes are the brightness of their pixels, in 10 steps, and as unlikely."""

    num_frames, grid_size = 16, (4, 2, 2)

    def __init__(self):
        super().__init__()
        self.pretrained_cfg = dict(
            input_size=(3, 32, 32), mean=(0.0,) * 3, std=(1.0,) * 3, interpolation='bilinear', num_classes=0
        )
        self.scale = torch.nn.Parameter(torch.ones(()))

    def encode(self, clips):
        return (10 * torch.nn.functional.adaptive_avg_pool3d(clips, self.grid_size).mean(dim=1)).long()

    def log_likelihood_of_codes(self, codes):
        return -codes * self.scale


def test_likelihood_is_the_mean_over_later_codes():
    result = surprise(Codes(), FILM, score='nll', contexts=(4, 12), maps=True)
    series = result.series[0]
    starts, _ = windows_of(FILM, 4)
    sampling = series.views.sampling
    for w, start in enumerate(starts):
        x = prepare_clip(read_clip(FILM, sampling=sampling, start=start).frames, 32, mean=0, std=1)
        light = x.unflatten(3, (2, 16)).unflatten(2, (2, 16)).unflatten(1, (4, 4)).mean(dim=(0, 2, 4, 6))  # [4, 2, 2]
        nats = (10 * light).floor()
        assert series.scores[w].tolist() == pytest.approx([nats[1:].mean().item(), nats[3:].mean().item()], rel=1e-5)
        assert not series.maps[w, 1, :3].any() and torch.allclose(series.maps[w, 1, 3], nats[3], rtol=1e-5)
        changed = [(nats[1:] != nats[:1]).float().mean(), (nats[3:] != nats[2:3]).float().mean()]
        assert series.baselines['copy'][w].tolist() == pytest.approx([float(x) for x in changed])
    assert list(series.baselines) == ['copy'] and series.baselines['copy'].any()
    with pytest.raises(ValueError, match='context=6: the visible frames must be a multiple of 4'):
        surprise(Codes(), FILM, score='nll', contexts=[6])
    with pytest.raises(ValueError, match='no masks'):
        surprise(Codes(), FILM, score='nll', mask_type='random')


def test_the_command_scores_with_a_generator(tmp_path, capsys):
    generator = VideoGenerator(gpt_of(), vqgan_of('video_vqgan_tiny')).eval()
    save_video_generator(generator, tmp_path / 'codes.safetensors', {})
    command = ['surprise', FILM, '--score', 'nll', '--contexts', '2,4', '--stride', '9', '--num-workers', '0']
    weights = ['--weights', str(tmp_path / 'codes.safetensors')]
    assert main([*command, *weights, '--out', str(tmp_path / 'out')]) == 0, capsys.readouterr().err
    assert 'mean nll' in capsys.readouterr().out
    rows = list(csv.DictReader((tmp_path / 'out/surprise.csv').read_text().splitlines()))
    assert [(row['start'], row['context']) for row in rows[:3]] == [('0', '2'), ('0', '4'), ('1.2', '2')]
    for row in rows:
        frames = read_clip(FILM, sampling=videozoo_timm.video.Sampling(8, 29), start=float(row['start'])).frames
        clip = prepare_clip(frames, 32, short_side=32, mean=0, std=1)
        later = generator.log_likelihood(clip[None])[0, int(row['context']) // 2 :]
        assert float(row['score']) == pytest.approx(-later.mean().item(), rel=1e-5)
    assert list((tmp_path / 'out').glob('*_codes_nll.jpg'))
    capsys.readouterr()
    assert main(['again', str(tmp_path / 'out')]) == 0
    assert 'surprise.csv: the same to the byte' in capsys.readouterr().out


@pytest.mark.parametrize(
    ('options', 'words'),
    [
        (['--model', 'mae_shapes_none'], '--score nll: mae_shapes_none is no generator of videos'),
        (
            ['--score', 'mse', '--model', 'gen_shapes_64'],
            'gen_shapes_64 is a video generator; its score is --score nll',
        ),
        (['--model', 'gen_shape'], "no model 'gen_shape'"),
        (['--zoo', 'hvm-1'], "name a model of the zoo 'hvm-1' with --model"),
    ],
    ids=['mae', 'generator', 'unknown', 'zoo'],
)
def test_what_is_no_generator_is_told_in_words(tmp_path, capsys, options, words):
    command = ['surprise', FILM, '--score', 'nll', '--num-workers', '0', '--out', str(tmp_path / 'out')]
    assert main([*command, *options]) == 2 and words in capsys.readouterr().err
    assert not (tmp_path / 'out').exists()


def test_a_killed_run_goes_on_to_the_same_bits(model, tmp_path):
    films = [f'drawn:3/left/{k:06}' for k in range(3)]
    options = dict(batch_size=4, about=dict(model='tiny'))
    whole = surprise(model, films, out=tmp_path / 'whole', **options)
    wanted = (tmp_path / 'whole/surprise.csv').read_bytes()
    assert wanted.count(b'\n') == 1 + 3 * 9 * 5
    out, told = tmp_path / 'out', []
    for _ in range(3):
        done = []

        def stop(number, done=done):
            done.append(number)
            if len(done) > 7:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            surprise(model, films, out=out, progress=stop, say=told.append, **options)
        assert journal_folder(out / 'surprise.csv').is_dir() and not (out / 'surprise.csv').exists()
    result = surprise(model, films, out=out, say=told.append, **options)
    assert len(told) == 3 and 'going on with the unfinished run' in told[0]
    assert (out / 'surprise.csv').read_bytes() == wanted
    assert sorted(path.name for path in out.iterdir()) == ['surprise.csv', 'surprise.json']
    assert all(torch.equal(a.scores, b.scores) for a, b in zip(whole.series, result.series, strict=True))


def test_results_of_other_settings_stay(model, tmp_path):
    surprise(model, FILM, out=tmp_path, contexts=[4])
    before = (tmp_path / 'surprise.csv').read_bytes()
    with pytest.raises(ValueError, match=r'another run \(contexts was \[4\], is \[6\]\)'):
        surprise(model, FILM, out=tmp_path, contexts=[6])
    assert (tmp_path / 'surprise.csv').read_bytes() == before
    surprise(model, FILM, out=tmp_path, contexts=[6], start_over=True)
    assert (tmp_path / 'surprise.csv').read_bytes() != before


def test_the_command(tmp_path, capsys):
    from PIL import Image

    out = tmp_path / 'out'
    command = ['surprise', 'drawn:2@7', '--contexts', '4,8', '--num-workers', '0', '--stride', '4', '--out', str(out)]
    assert main([*command, '--save-arrays']) == 0
    shown = capsys.readouterr().out
    assert 'video                windows  mean mse  highest' in shown and 'drawn:7/grow/000000  5' in shown
    rows = list(csv.DictReader((out / 'surprise.csv').read_text().splitlines()))
    assert len(rows) == 2 * 5 * 2
    assert rows[1] | dict(video='drawn:7/down/000000', start='0', end='2.13333', context='8') == rows[1]
    mean = np.mean([float(row['score']) for row in rows if 'grow' in row['video']])
    assert f'{mean:.4f}' in shown and float(rows[0]['zero']) > float(rows[0]['score'])
    record = json.loads((out / 'surprise.json').read_text())
    assert record['model'] == 'mae_t14_st.shapes' and record['contexts'] == [4, 8] and record['windows'] == [5, 5]
    assert len(record['checksum']) == 64 and record['versions']['torch'] == torch.__version__.split('+')[0]
    picture = Image.open(out / 'grow_000000_mae_shapes_none_mse.jpg')
    assert picture.width == 1028 and picture.height > 600
    with np.load(out / 'grow_000000_mae_shapes_none_mse.npz') as arrays:
        assert arrays['scores'].shape == (5, 2) and arrays['map'].shape == (8, 8, 8)


def test_an_animation_plays_the_film(tmp_path):
    command = ['surprise', FILM, '--contexts', '8', '--stride', '8', '--num-workers', '0', '--animate', 'mp4']
    assert main([*command, '--out', str(tmp_path)]) == 0
    (film,) = tmp_path.glob('*.mp4')
    assert videozoo_timm.video.probe(film).duration == pytest.approx(4.5, abs=0.01)


def test_several_films_are_compared_at_the_same_window(model):
    films = ['drawn:3/left/000001', 'drawn:3/right/000001']
    result = surprise(model, films, contexts=[4, 6])
    picture = result.picture(0, 1, labels=['left', 'right'], events=[2.0])
    assert len({window.number for window in picture.windows}) == len({window.column for window in picture.windows}) == 1
    most = max(float(one.scores.mean(dim=1).max()) for one in result.series)
    assert most in [float(one.scores.mean(dim=1)[picture.windows[0].number]) for one in result.series]
    timeline = picture.picture('a pair')
    assert timeline.image.size == (timeline.width, timeline.height) and len(timeline.films) == 2
    rows = timeline.films[0].rows
    assert [label for label, _ in rows] == ['what comes', 'what the\nmodel expects', 'error']
    seen = [2, 3][picture.windows[0].column]
    assert torch.equal(rows[0][1][:seen], rows[2][1][:seen])  # no error where the frames are visible
    assert not torch.equal(rows[0][1][seen], rows[2][1][seen])


def test_the_command_tells_short_films(tmp_path, capsys):
    film = write_video(tmp_path / 'short.mkv', 30)
    command = ['surprise', str(film), 'drawn:1@7', '--contexts', '4', '--num-workers', '0', '--no-pictures', '--out']
    assert main([*command, str(tmp_path / 'out')]) == 1
    assert 'short.mkv: lasts 1.00 s, which is shorter than a window of 16 frames' in capsys.readouterr().err


def test_without_a_score_no_folder_is_left(tmp_path, capsys):
    film, out = str(write_video(tmp_path / 'short.mkv', 30)), tmp_path / 'out'
    command = ['surprise', film, '--contexts', '4', '--num-workers', '0', '--out', str(out)]
    assert main(command) == 2 and 'shorter than a window' in capsys.readouterr().err and not out.exists()
    out.mkdir()
    assert main(command) == 2 and out.is_dir()  # somebody's own


def test_films_of_one_name_are_told_apart(tmp_path, capsys):
    films = []
    for name in ('possible', 'impossible'):
        (tmp_path / name).mkdir()
        films.append(str(write_video(tmp_path / name / 'film.mkv', 70)))
    command = ['surprise', *films, '--contexts', '4', '--num-workers', '0', '--no-pictures']
    assert main([*command, '--out', str(tmp_path / 'out')]) == 0
    lines = capsys.readouterr().out.splitlines()[1:3]
    assert [line.split()[0] for line in lines] == ['possible_film.mkv', 'impossible_film.mkv']
