"""Label propagation: the golden, masks of drawn scenes, J and F of known masks, DAVIS, videos of one's own."""

import json

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
from conftest import golden, relative_error
from PIL import Image

from videozoo_timm import load_model
from videozoo_timm.analysis import contour_accuracy, propagate, propagate_labels, region_similarity, score_labels
from videozoo_timm.analysis.propagation import each_labeled, nearest, to_label_map
from videozoo_timm.cli import main
from videozoo_timm.figures.indexed import IndexedImage, bit_palette, read_indexed, save_indexed
from videozoo_timm.synthetic.scenes import _distance, make_scene

TIMES = 1.5 + torch.arange(5) / 10


def scene_with_masks(size=128, number=1, times=TIMES):
    """A shape that moves to the right, uint8 [T, H, W, 3], and where it is, [T, H, W]."""
    scene = make_scene(0, number, 'right')
    shape = scene.layers[-1]
    x, y, radius, angle, _ = (value.view(-1, 1, 1) for value in shape.place(times))
    pixels = (torch.arange(size) + 0.5) / size
    dx, dy, cos, sin = pixels - x, pixels[:, None] - y, angle.cos() / radius, angle.sin() / radius
    return scene.render(times, size), (_distance(shape.shape, cos * dx + sin * dy, cos * dy - sin * dx) <= 0).byte()


def region_of(predicted, true):
    return score_labels(zip(predicted[1:-1], true[1:-1], strict=True), [1])[0].region


# The published answer


def test_the_golden():
    want = golden('propagation')
    options = dict(radius=2, topk=5, num_previous=2)
    ours = propagate(want['features'], want['first_labels'], **options)
    assert relative_error(ours, want['propagated']) < 1e-5
    fractions = F.one_hot(want['first_labels']).movedim(-1, 0).float()
    assert torch.equal(propagate(iter(want['features']), fractions, **options), ours)


@pytest.mark.parametrize(
    'options, error', [(dict(topk=0), 'topk=0'), (dict(radius=-1), 'radius=-1'), (dict(temperature=0), 'temperature=0')]
)
def test_numbers_out_of_range(options, error):
    with pytest.raises(ValueError, match=error):
        propagate(torch.rand(2, 4, 3), torch.zeros(2, 2, dtype=torch.long), **options)


def test_features_of_another_grid():
    with pytest.raises(ValueError, match=r'N = 2 x 3 are wanted, got \[4, 3\]'):
        propagate(torch.rand(2, 4, 3), torch.zeros(2, 3, dtype=torch.long))


def test_label_maps_are_as_published():
    fractions = torch.zeros(3, 4, 6)
    fractions[0] = 0.9
    fractions[1, :, 3:], fractions[0, :, 3:] = 0.2, 0.8  # each label is scaled to its own range
    labels = to_label_map(fractions, (2, 2), (17, 23))
    assert labels[:, 0].unique().tolist() == [0] and labels[:, -1].unique().tolist() == [1]
    fractions[0], fractions[1] = 0, 1  # the same everywhere
    assert to_label_map(fractions, (2, 2), (8, 12)).unique().tolist() == [1]
    noise = torch.randint(0, 9, (21, 34), dtype=torch.uint8)
    for size in ((34, 59), (13, 8)):
        assert np.array_equal(nearest(noise, size), Image.fromarray(noise.numpy()).resize(size[::-1], Image.NEAREST))


# A drawn scene with exact masks


def test_a_drawn_shape_is_followed_by_tokens_and_by_pixels():
    frames, masks = scene_with_masks()
    followed = propagate_labels(
        load_model('vit_shapes_motion'), frames, masks[0], short_side=224, whole_patches=True, topk=5
    )
    assert torch.equal(followed[0], masks[0])
    assert region_of(followed, masks) > 0.8
    pixels = F.unfold(frames.movedim(-1, 1) / 255 - 0.5, 4, stride=4).transpose(1, 2)
    fractions = propagate(pixels, nearest(masks[0], (32, 32)))
    assert region_of([masks[0], *(to_label_map(f, (4, 4), (128, 128)) for f in fractions)], masks) > 0.8
    assert region_of(masks[:1].expand_as(masks), masks) < 0.7  # what standing still would give


@pytest.mark.slow
def test_shapes_are_followed_by_tokens_through_several_scenes():
    model, times, regions = load_model('vit_shapes_motion'), 1.5 + torch.arange(8) / 10, []
    numbers = [k for k in range(20) if len(make_scene(0, k, 'right').layers) == 2][:3]  # nothing else is in front
    for number in numbers:
        frames, masks = scene_with_masks(number=number, times=times)
        followed = propagate_labels(model, frames, masks[0], short_side=224, whole_patches=True)
        regions.append(region_of(followed, masks))
    assert np.mean(regions) > 0.8, regions


@pytest.mark.parametrize('name, clips', [('vit_t14_st', True), ('vit_t14_st', False), ('vit_t16_im', False)])
def test_any_model_at_any_size(name, clips):
    model = timm.create_model(name, num_classes=0).eval()
    frames = torch.randint(0, 255, (4, 50, 70, 3), dtype=torch.uint8)
    labels = torch.zeros(50, 70, dtype=torch.uint8)
    labels[:, 40:], labels[:, 60:] = 7, 200
    strict = model.patch_embed.strict_img_size
    followed = propagate_labels(model, iter(frames), labels, short_side=64, clips=clips)
    assert followed.shape == (4, 50, 70) and set(followed.unique().tolist()) <= {0, 7, 200}
    assert model.patch_embed.strict_img_size == strict
    still = propagate_labels(model, frames[:1].expand_as(frames), labels, short_side=64, clips=clips, topk=1)
    assert (still[1] == labels).float().mean() > 0.8  # the grid has 4 rows


def test_clips_show_the_frames_around():
    """In a clip, the token of a frame tells of the frames beside it; repeated it does not."""
    model = timm.create_model('vit_t14_st', num_classes=0).eval()
    seen = []
    model.patch_embed.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    frames = torch.arange(5, dtype=torch.uint8).view(-1, 1, 1, 1).expand(5, 70, 70, 3) * 40
    labels = torch.zeros(70, 70, dtype=torch.uint8)
    list(each_labeled(model, frames, labels, short_side=70, whole_patches=True, clips=True))
    shown = [((x[0, 0, :, 0, 0] * 0.228 + 0.485) * 255 / 40).round().int().tolist() for x in seen]
    assert shown[0] == [0] * 9 + [1, 2, 3, 4, 4, 4, 4]
    assert shown[4] == [0, 0, 0, 0, 0, 1, 2, 3] + [4] * 8


def test_what_cannot_be_followed():
    model, frames = timm.create_model('vit_t16_im'), torch.zeros(2, 70, 70, 3, dtype=torch.uint8)
    labels = torch.zeros(70, 70, dtype=torch.uint8)
    for given, error in (
        ((model, frames, labels[:60]), '70 x 60 pixels, the frames 70 x 70'),
        ((model, frames, labels.int() + 256), 'from 0 to 255'),
        ((model, frames, labels.float()), 'whole numbers'),
        ((model, frames[:0], labels), 'no frames'),
        ((model, [frames[0], frames[0, :60]], labels), 'as the first one'),
        ((timm.create_model('resnext50_im'), frames, labels), 'no patch tokens'),
    ):
        with pytest.raises(ValueError, match=error):
            propagate_labels(*given, short_side=70)
    with pytest.raises(ValueError, match='takes images'):
        propagate_labels(model, frames, labels, clips=True)


# J and F


def test_known_regions_and_contours():
    square, shifted, empty = (torch.zeros(100, 100, dtype=torch.bool) for _ in range(3))
    square[20:60, 20:60], shifted[20:60, 30:70] = True, True
    assert region_similarity(square, shifted) == pytest.approx(30 / 50)
    assert region_similarity(square, empty) == 0 and region_similarity(empty, empty) == 1
    assert contour_accuracy(square, square) == 1 and contour_accuracy(empty, empty) == 1
    assert contour_accuracy(square, empty) == 0
    # 2 pixels are near enough in 100 x 100, 3 are not: of a square's contour the rows stay, the columns are off.
    assert contour_accuracy(square, square.roll(2, 1)) == 1
    # 162 points: 41 in each of 2 columns, 39 more in 2 rows, less the corner that is not there.
    off = contour_accuracy(square, square.roll(10, 1))
    rows = 2 * 33  # of each row 40 or 41 points, those within reach of the other's
    assert off == pytest.approx(rows / 161, abs=0.03)


def test_scores_are_by_object_and_void_does_not_count():
    true = torch.zeros(20, 20, dtype=torch.uint8)
    true[:10], true[10:15], true[15:] = 1, 2, 255
    predicted = true.clone()
    predicted[15:] = 1
    predicted[10:15, :10] = 0
    one, two = score_labels([(predicted, true)] * 2, [1, 2])
    assert (one.label, one.region) == (1, 1.0) and (two.label, two.region) == (2, 0.5)
    assert score_labels([], [1]) == []


# Indexed images


def test_indexed_images_keep_their_palette(tmp_path):
    assert bit_palette()[[1, 2, 3, 8, 255]].tolist() == [
        [128, 0, 0],
        [0, 128, 0],
        [128, 128, 0],
        [64, 0, 0],
        [224, 224, 192],
    ]
    palette = np.random.default_rng(0).integers(0, 255, (256, 3)).astype(np.uint8)
    labels = torch.arange(256, dtype=torch.uint8).view(16, 16)
    save_indexed(tmp_path / 'a.png', IndexedImage(labels, palette))
    again = read_indexed(tmp_path / 'a.png')
    assert torch.equal(again.labels, labels) and np.array_equal(again.palette, palette)
    Image.new('RGB', (4, 4)).save(tmp_path / 'rgb.png')
    with pytest.raises(ValueError, match=r'rgb\.png: not an indexed PNG'):
        read_indexed(tmp_path / 'rgb.png')


# The command


@pytest.fixture
def videozoo(monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)

    def run(*args):
        words = ['--model', 'vit_shapes_motion', '--device', 'cpu', '--short-side', '112']
        code = main(['propagate', *args, *words])
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


@pytest.fixture
def davis(tmp_path):
    """A folder of DAVIS with one video, of 5 frames."""
    frames, masks = scene_with_masks()
    for folder in ('JPEGImages/480p/shape', 'Annotations/480p/shape', 'ImageSets/2017'):
        (tmp_path / 'DAVIS' / folder).mkdir(parents=True)
    for k in range(5):
        Image.fromarray(frames[k].numpy()).save(tmp_path / f'DAVIS/JPEGImages/480p/shape/{k:05}.jpg', quality=95)
        save_indexed(tmp_path / f'DAVIS/Annotations/480p/shape/{k:05}.png', IndexedImage(masks[k], bit_palette()))
    (tmp_path / 'DAVIS/ImageSets/2017/val.txt').write_text('shape\n')
    return tmp_path / 'DAVIS'


def test_a_folder_of_davis(videozoo, davis, tmp_path):
    code, out, _ = videozoo('DAVIS')
    assert code == 0 and out.splitlines()[0].split() == ['video', 'frames', 'objects', 'J', 'F', 'J&F']
    assert sorted(path.name for path in (tmp_path / 'propagated/shape').iterdir()) == [f'{k:05}.png' for k in range(5)]
    pairs = [
        [
            read_indexed(folder / f'{k:05}.png')
            for folder in (tmp_path / 'propagated/shape', davis / 'Annotations/480p/shape')
        ]
        for k in range(5)
    ]
    assert torch.equal(pairs[0][0].labels, pairs[0][1].labels)
    assert all(np.array_equal(ours.palette, theirs.palette) for ours, theirs in pairs)
    (score,) = score_labels([(ours.labels, theirs.labels) for ours, theirs in pairs[1:4]], [1])
    record = json.loads((tmp_path / 'propagated/propagation.json').read_text())
    assert record['J'] == pytest.approx(score.region) and record['F'] == pytest.approx(score.contour)
    assert f'{100 * score.region:.1f}' in out
    code, out, _ = videozoo('DAVIS', '--json')
    assert code == 0 and json.loads(out)['scores'] == record['scores']
    code, _, err = videozoo('DAVIS', '--topk', '3')
    assert code == 2 and 'topk was 5, is 3' in err and '--force' in err
    (tmp_path / 'propagated/propagation.json').unlink()
    code, _, err = videozoo('DAVIS')  # pictures of whatever run
    assert code == 2 and 'propagated holds propagation.csv, but no propagation.json' in err
    (tmp_path / 'propagated/propagation.csv').unlink()
    code, _, err = videozoo('DAVIS', '--force')
    assert code == 2 and 'propagated holds shape, but no propagation.json' in err


def test_propagation_is_repeated(videozoo, davis, capsys):
    assert videozoo('DAVIS')[0] == 0
    code, told = main(['again', 'propagated']), capsys.readouterr()
    assert code == 0 and '7 results, all equal' in told.out, told


def test_videos_that_cannot_be_followed_are_told(videozoo, davis):
    (davis / 'ImageSets/2017/val.txt').write_text('shape\nabsent\nunannotated\nsmall\ngray\n')
    annotations = davis / 'Annotations/480p'
    for name in ('unannotated', 'small', 'gray'):
        (davis / 'JPEGImages/480p' / name).symlink_to(davis / 'JPEGImages/480p/shape')
        (annotations / name).mkdir()
    save_indexed(annotations / 'small/00000.png', IndexedImage(torch.ones(8, 9, dtype=torch.uint8), bit_palette()))
    Image.new('L', (128, 128)).save(annotations / 'gray/00000.png')
    code, out, err = videozoo('DAVIS')
    assert code == 1 and 'shape' in out
    for told in ('absent: no such video', 'unannotated/00000.png: no such file', '9 x 8 pixels', 'not an indexed PNG'):
        assert told in err
    assert '4 of 5 files' in err


def test_what_is_no_folder_of_davis(videozoo, davis, tmp_path):
    code, _, err = videozoo('.')
    assert code == 2 and 'holds no folder JPEGImages/480p' in err
    code, _, err = videozoo('DAVIS', '--split', 'test')
    assert code == 2 and 'test.txt: no such list of videos; there are: val' in err
    code, _, err = videozoo('drawn:0/right/000001')
    assert code == 2 and '--labels' in err
    code, _, err = videozoo('DAVIS', '--fps', '5')
    assert code == 2 and '--fps 5' in err
    assert not (tmp_path / 'propagated').exists()


def test_without_later_annotations_nothing_is_scored(videozoo, davis):
    for path in (davis / 'Annotations/480p/shape').glob('*[1-9].png'):
        path.unlink()
    code, out, _ = videozoo('DAVIS')
    assert code == 0 and out.splitlines()[1].split() == ['shape', '5', '0', '-', '-', '-']


def test_a_video_of_ones_own(videozoo, tmp_path, capsys):
    labels = torch.zeros(128, 128, dtype=torch.uint8)
    labels[40:90, 40:90] = 3
    save_indexed(tmp_path / 'first.png', IndexedImage(labels, bit_palette()))
    code, out, _ = videozoo('drawn:0/right/000001', '--labels', 'first.png', '--fps', '2', '--clips')
    folder = tmp_path / 'propagated/000001'
    assert code == 0 and '9 indexed PNGs' in out
    assert {path.name for path in folder.iterdir()} == {
        *(f'{k:05}.png' for k in range(9)),
        'labels.mp4',
        'labels.jpg',
        'propagation.json',
        'run.json',
    }
    assert torch.equal(read_indexed(folder / '00000.png').labels, labels)
    code, told = main(['again', 'propagated/000001']), capsys.readouterr()
    assert code == 0 and 'labels.mp4: the same to the byte' in told.out, told
    (folder / 'propagation.json').unlink()
    code, _, err = videozoo('drawn:0/right/000001', '--labels', 'first.png', '--fps', '2', '--clips')
    assert code == 2 and 'holds labels.mp4, but no propagation.json' in err
    save_indexed(tmp_path / 'first.png', IndexedImage(labels[:64], bit_palette()))
    code, _, err = videozoo('drawn:0/right/000001', '--labels', 'first.png', '--fps', '2', '--out', 'other')
    assert code == 2 and '128 x 64 pixels, the frames 128 x 128' in err
