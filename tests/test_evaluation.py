"""Accuracy on class folders: against scikit-learn, under every protocol, in words where it cannot be."""

import csv
import json
import os
import shutil

import numpy as np
import pytest
import timm
import torch
from conftest import CLIPS
from PIL import Image
from sklearn.metrics import confusion_matrix, log_loss, top_k_accuracy_score
from test_video import av
from torch import nn

import videozoo_timm.analysis
from videozoo_timm.analysis.evaluation import (
    class_folders,
    evaluate,
    parse_views,
    predict,
)
from videozoo_timm.analysis.labels import known_labels, read_labels
from videozoo_timm.cli import main
from videozoo_timm.inference.pipeline import views_of
from videozoo_timm.inference.reporting import Reporter
from videozoo_timm.video import Reading, centered_starts, prepare_clip, probe, read_clip

COLORS = {  # in the order of the classes: sorted by code point, capitals first
    'Blue': (0, 0, 255),
    'black': (0, 0, 0),
    'green': (0, 255, 0),
    'red': (255, 0, 0),
    'white': (255, 255, 255),
    'yellow': (255, 255, 0),
}
# Of five videos a class these show the color of the class behind; so what is right is known by construction.
WRONG = {('Blue', 0): 'black', ('green', 1): 'red', ('green', 2): 'red', ('white', 4): 'yellow'}


class ColorModel(nn.Module):
    """Recognizes the mean color of a clip, by its distance to the color of each class."""

    def __init__(self):
        super().__init__()
        self.colors = nn.Parameter(torch.tensor(list(COLORS.values())) / 255)
        self.num_classes, self.num_frames = len(COLORS), 4
        self.pretrained_cfg = dict(
            input_size=(3, 28, 28), mean=(0.45,) * 3, std=(0.225,) * 3, interpolation='bilinear', architecture='colors'
        )

    def forward(self, x):
        mean = (x * 0.225 + 0.45).flatten(2).mean(dim=2)  # [B, 3]
        return -4 * torch.cdist(mean, self.colors)


@pytest.fixture(scope='module')
def colors(tmp_path_factory):
    """30 videos in class folders."""
    folder = tmp_path_factory.mktemp('colors')
    for name in COLORS:
        (folder / name / 'deeper').mkdir(parents=True)
        for k in range(5):
            color = COLORS[WRONG.get((name, k), name)]
            image = np.full((36, 64, 3), color, np.float64) + np.random.default_rng(k).normal(0, 20, (36, 64, 3))
            with av.open(str(folder / name / ('deeper' if k == 4 else '') / f'{k}.mp4'), 'w') as container:
                stream = container.add_stream('libx264', rate=10)
                stream.width, stream.height, stream.pix_fmt = 64, 36, 'yuv420p'
                for _ in range(6):
                    frame = av.VideoFrame.from_ndarray(image.clip(0, 255).astype(np.uint8), format='rgb24')
                    container.mux(stream.encode(frame))
                container.mux(stream.encode())
    return folder


@pytest.fixture(scope='module')
def vit():
    torch.manual_seed(0)
    return timm.create_model('vit_t14_st', num_classes=6).eval()


@pytest.fixture
def videozoo(monkeypatch, tmp_path, tmp_path_factory, capsys, vit):
    from safetensors.torch import save_file

    monkeypatch.chdir(tmp_path)
    file = tmp_path_factory.mktemp('weights') / 'six.safetensors'
    save_file(vit.state_dict(), file)

    def run(command, *args):
        code = main([command, *map(str, args), '--model', 'vit_t14_st', '--weights', str(file), '--num-workers', '0'])
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


@pytest.mark.parametrize('analysis', ['embed', 'evaluate', 'frozen_features', 'predict'])
def test_reading_and_reporting_travel_as_records(analysis, tmp_path, vit, caplog):
    for k, source in enumerate([CLIPS / 'pans' / 'things' / 'cat.mp4', __file__, *[__file__] * 4]):
        (tmp_path / f'class{k}').mkdir()
        shutil.copy(source, tmp_path / f'class{k}' / 'clip.mp4')
    call, done, told = getattr(videozoo_timm.analysis, analysis), [], []
    given = sorted(tmp_path.rglob('*.mp4')) if analysis == 'predict' else tmp_path
    call(vit, given, num_workers=0, progress=done.append)
    assert len(caplog.records) == 5 and 'class1' in caplog.text and sum(done) == 6  # without `report`: warnings
    caplog.clear()
    call(vit, given, reading=Reading(time_limit=9.0), reporter=Reporter(report=lambda path, reason: told.append(path)))
    assert [os.path.dirname(path)[-6:] for path in told] == [f'class{k}' for k in range(1, 6)] and not caplog.records
    with pytest.raises(ValueError, match='num_workers=-1'):
        call(vit, given, reading=Reading(time_limit=9.0), num_workers=-1)
    with pytest.raises(TypeError, match='workers'):
        call(vit, given, workers=1)


def test_known_answers_and_scikit_learn(colors, tmp_path):
    model, files = ColorModel(), class_folders(colors)
    assert files.classes == list(COLORS) and len(files.paths) == 30 and sorted(files.targets) == files.targets
    result = evaluate(model, files, batch_size=4)
    assert result.top(1) == 26 / 30 and not result.failed
    # The same without this package's evaluation: one video after the other, the rest by scikit-learn.
    with torch.no_grad():
        logits = torch.cat(
            [
                model(
                    prepare_clip(read_clip(path, sampling=views_of(model).sampling).frames, 28, mean=0.45, std=0.225)[
                        None
                    ]
                )
                for path in files.paths
            ]
        )
    probabilities = logits.double().softmax(dim=1).numpy()
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    targets = np.array(files.targets)
    assert result.top(1) == pytest.approx(top_k_accuracy_score(targets, probabilities, k=1))
    assert result.top(5) == pytest.approx(top_k_accuracy_score(targets, probabilities, k=5))
    assert result.loss == pytest.approx(log_loss(targets, probabilities), rel=1e-5)
    assert np.array_equal(result.confusion, confusion_matrix(targets, probabilities.argmax(axis=1)))
    per_class = {row['class']: row['top1'] for row in result.per_class()}
    assert per_class == {'Blue': 0.8, 'black': 1, 'green': 0.6, 'red': 1, 'white': 0.8, 'yellow': 1}

    result.save(tmp_path / 'out', dict(model='colors'))
    with open(tmp_path / 'out' / 'confusion.csv') as file:
        table = list(csv.reader(file))
    assert table[0][1:] == list(COLORS) and table[3] == ['green', '0', '0', '3', '2', '0', '0']
    with open(tmp_path / 'out' / 'predictions.csv') as file:
        assert sum(row['class'] == row['predicted 1'] for row in csv.DictReader(file)) == 26
    assert json.loads((tmp_path / 'out' / 'summary.json').read_text())['top1'] == 26 / 30
    assert Image.open(tmp_path / 'out' / 'confusion.png').width > 300


def test_views_are_averaged_after_the_softmax(vit):
    path = str(CLIPS / 'odd' / 'sixty_fps.mp4')
    base = views_of(vit)
    answers, _ = predict(vit, [path], parse_views('5x3', base), batch_size=4)
    starts = centered_starts(probe(path).duration, base.sampling, 5)
    with torch.no_grad():
        probabilities = torch.stack(
            [
                vit(
                    prepare_clip(
                        read_clip(path, start=start).frames, 112, mean=0.45, std=0.225, short_side=112, crop=crop
                    )[None]
                )[0].softmax(0)
                for start in starts
                for crop in (0, 1, 2)
            ]
        )
    torch.testing.assert_close(answers[0].exp(), probabilities.mean(0), rtol=1e-4, atol=1e-6)


def test_protocols():
    base = views_of(timm.create_model('vit_t14_st'))
    assert parse_views('1x1', base) == base and parse_views('10x1', base).num_clips == 10
    views = parse_views('5x3', base)
    assert (views.num_clips, views.crops, views.short_side) == (5, (0, 1, 2), 112)
    assert parse_views('random', base).jitter == (128, 160)
    assert parse_views('random', base, (120, 130)).jitter == (120, 130)
    for wrong in ('5', '5x2', 'x3', '0x1', 'all', '-1x3', '1x1x1'):
        with pytest.raises(ValueError, match="'CxK'"):
            parse_views(wrong, base)


def test_evaluate(videozoo, colors, tmp_path):
    code, out, _ = videozoo('evaluate', colors)
    assert code == 0 and 'top-1' in out and '(30 files, views 1x1' in out
    assert sorted(path.name for path in (tmp_path / 'evaluation').iterdir()) == [
        'confusion.csv',
        'confusion.png',
        'per_class.csv',
        'predictions.csv',
        'run.json',
        'summary.json',
    ]
    summary = json.loads((tmp_path / 'evaluation' / 'summary.json').read_text())
    assert 0 <= summary['top1_low'] < summary['top1'] < summary['top1_high'] < 1 and '95% interval' in out
    with open(tmp_path / 'evaluation' / 'per_class.csv', newline='') as file:
        for row in csv.DictReader(file):  # five files each, of which all or none may be right
            assert 0.3 < float(row['top1_high']) - float(row['top1_low']) < 1
    code, _, err = videozoo('evaluate', colors, '--views', '2x3')
    assert code == 2 and 'another run (views was 1x1, is 2x3)' in err
    told = json.loads((tmp_path / 'evaluation' / 'summary.json').read_text())
    assert told['folder'] == str(colors) and told['torch'] and told['pyav'] and len(told['checksum']) == 64
    for options, differs in (
        (['--span', '65'], 'span was 128, is 65'),
        (['--num-frames', '4'], 'num_frames was 16, is 4'),
        (['--img-size', '56'], 'size was 112, is 56'),
        (['--dtype', 'bfloat16'], 'dtype was float32, is bfloat16'),
    ):
        code, _, err = videozoo('evaluate', colors, *options)
        assert code == 2 and 'another run' in err and differs in err
    # The published script's flags, as people type them: its one random clip and crop.
    published = [
        'evaluate',
        '--model_name',
        'vit_t14_st',
        '--img_size',
        '112',
        '--batch_size',
        '8',
        '--val_dir',
        colors,
        '--train_jitter_scales',
        '128',
        '160',
        '--num_workers',
        '0',
        '--json',
    ]
    code, first, _ = videozoo(*published, '--out_dir', 'random')
    assert code == 0 and json.loads(first)['views'] == 'random' and json.loads(first)['jitter'] == [128, 160]
    assert videozoo(*published, '--out', 'again')[1] == first
    assert json.loads(videozoo(*published, '--out', 'other', '--seed', '1')[1])['loss'] != json.loads(first)['loss']


def test_names_that_are_no_text(videozoo, colors, tmp_path):
    for name in ('$x_$', 'b', 'c', 'd', 'e', 'f'):
        (tmp_path / 'val' / name).mkdir(parents=True)
    shutil.copy(colors / 'red' / '0.mp4', os.fsencode(tmp_path / 'val' / 'b') + b'/\xff.mp4')
    code, out, err = videozoo('evaluate', 'val', '--allow-empty')
    assert code == 0 and (tmp_path / 'evaluation' / 'confusion.png').exists(), err
    assert b'\xff.mp4' in (tmp_path / 'evaluation' / 'predictions.csv').read_bytes()
    code, out, _ = videozoo('classify', 'val/b')
    assert code == 0 and 'class' in out


def test_a_file_that_cannot_be_read_is_left_out_and_listed(videozoo, colors, tmp_path):
    shutil.copytree(colors, tmp_path / 'val')
    (tmp_path / 'val' / 'red' / '9.mp4').touch()
    code, out, err = videozoo('evaluate', 'val', '--json')
    assert code == 1 and '9.mp4: the file is empty' in err
    results = json.loads(out)
    assert results['files'] == 30 and results['failed'] == 1 and results['failed_files'][0][0] == 'val/red/9.mp4'


def test_images(videozoo, vit, colors, tmp_path):
    for name, color in COLORS.items():
        (tmp_path / 'images' / name).mkdir(parents=True)
        Image.new('RGB', (150, 130), color).save(tmp_path / 'images' / name / 'a.JPEG')
    code, out, _ = videozoo('evaluate', 'images', '--json')
    assert code == 0 and json.loads(out)['files'] == 6
    with torch.no_grad():
        pixels = torch.tensor(list(COLORS.values())) / 255
        x = ((pixels - 0.45) / 0.225).view(6, 3, 1, 1).expand(-1, -1, 112, 112)
        loss = nn.functional.cross_entropy(vit(x), torch.arange(6)).item()
    assert json.loads(out)['loss'] == pytest.approx(loss, rel=1e-3)
    code, _, err = videozoo('evaluate', 'images', '--views', '5x3', '--out', 'other')
    assert code == 2 and 'images have one view' in err


def test_what_cannot_be_evaluated(videozoo, colors, tmp_path):
    (tmp_path / 'two' / 'a').mkdir(parents=True)
    (tmp_path / 'two' / 'b').mkdir()
    shutil.copy(colors / 'red' / '0.mp4', tmp_path / 'two' / 'a')
    for args, words in (
        (
            ['two'],
            "two: the class folder 'b' is empty: fill it or remove it, or measure the other classes with --allow",
        ),
        (['two', '--allow-empty'], 'two has 2 class folders, the model has 6 classes'),
        (['nowhere'], 'nowhere: no such folder'),
        (['two/a'], 'two/a has no subfolders'),
        ([], 'name one folder'),
        ([colors, '--views', '3'], "'CxK'"),
        ([colors, '--train-jitter-scales', '128', '160', '--views', '1x1'], 'belongs to'),
        ([colors, '--train-jitter-scales', '12', '160'], 'at least 112 pixels'),
    ):
        code, _, err = videozoo('evaluate', *args)
        assert code == 2 and words in err, err
    assert not (tmp_path / 'evaluation').exists()
    with pytest.raises(ValueError, match='vit_t14_st has no classification head'):
        evaluate(timm.create_model('vit_t14_st', num_classes=0), class_folders(colors))


def test_classify_never_invents_a_name(videozoo, colors, tmp_path):
    video = colors / 'red' / '0.mp4'
    code, out, err = videozoo('classify', video)
    assert code == 0 and 'does not name its 6 classes' in err and out.count('class ') == 5 and str(video) in out
    code, named, err = videozoo('classify', video, '--labels', colors)
    assert code == 0 and 'does not name' not in err
    lines = [line.split() for line in out.splitlines()[1:]]
    assert [line.split()[1] for line in named.splitlines()[1:]] == [list(COLORS)[int(line[2])] for line in lines]
    predictions = json.loads(videozoo('classify', video, '--json', '--labels', colors)[1])[0]['predictions']
    assert [p['label'] for p in predictions] == [line.split()[1] for line in named.splitlines()[1:]]
    (tmp_path / 'five.txt').write_text('a\nb\nc\nd\ne\n')
    code, _, err = videozoo('classify', video, '--labels', 'five.txt')
    assert code == 2 and 'five.txt has 5 class names, the model has 6 classes' in err


def test_names_of_classes(tmp_path, colors):
    for name, text in {
        'list.txt': 'b\n a \n\nc\n',
        'list.json': '["b", "a", "c"]',
        'numbers.json': '{"a": "1", "b": "0", "c": 2}',
        'names.json': '{"0": "b", "1": "a", "2": "c"}',
    }.items():
        (tmp_path / name).write_text(text)
        assert read_labels(tmp_path / name, 3) == ['b', 'a', 'c']
    assert read_labels(colors, 6) == list(COLORS)
    for name, text in {'gap.json': '{"a": 0, "b": 2}', 'broken.json': '[', 'number.json': '3'}.items():
        (tmp_path / name).write_text(text)
        with pytest.raises(ValueError, match=name):
            read_labels(tmp_path / name, 2)
    with pytest.raises(FileNotFoundError, match='nowhere'):
        read_labels(tmp_path / 'nowhere', 3)
    imagenet = timm.create_model('vit_h14_st.hvm1_imagenet_2pt', device='meta', weight_init='skip')
    assert known_labels(imagenet)[0].startswith('tench') and len(known_labels(imagenet)) == 1000
    assert known_labels(timm.create_model('vit_h14_st.hvm1_ssv2_50shot', device='meta', weight_init='skip')) is None
