"""Pictures: none replaces another one's, all settings stand beside them, and they serve a paper."""

import csv
import json
import logging
import math

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file
from test_video import write_video

from videozoo_timm.analysis import attend, complete, pca, strongest_head
from videozoo_timm.cli import main
from videozoo_timm.cli.options import Pictures, ReadingOptions
from videozoo_timm.cli.pictures import PictureFolder, settings_of
from videozoo_timm.figures import Grid, colorbar, fonts, save_confusion
from videozoo_timm.inference.pipeline import views_of
from videozoo_timm.outputs import Mark, own_stem


@pytest.fixture(scope='module')
def models(tmp_path_factory):
    """A ViT and an MAE, their files, and a file of another ViT."""
    folder, models = tmp_path_factory.mktemp('weights'), {}
    for name in ('vit_t14_st', 'mae_t14_st', 'other'):
        torch.manual_seed(len(models))
        models[name] = timm.create_model('vit_t14_st' if name == 'other' else name, num_classes=0).eval()
        save_file(models[name].state_dict(), folder / f'{name}.safetensors')
    return folder, models


@pytest.fixture
def videozoo(monkeypatch, tmp_path, capsys, models):
    """Run a command in this process, in a folder with a video and an image: (exit code, output, errors)."""
    monkeypatch.chdir(tmp_path)
    write_video(tmp_path / 'clip.mkv', 8, size=(64, 64))
    for k in range(2):
        noise = np.random.default_rng(k).integers(0, 255, (70, 70, 3), np.uint8)
        Image.fromarray(noise).save(tmp_path / f'image{k}.png')

    def run(command, *args, file=None):
        model = 'mae_t14_st' if command == 'complete' else 'vit_t14_st'
        weights = models[0] / f'{file or model}.safetensors'
        words = ['--model', model, '--weights', str(weights), '--num-workers', '0', '--device', 'cpu']
        code = main([command, *args, *words])
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


def table_of(path):
    with open(path, newline='') as file:
        return list(csv.DictReader(file))


def content(folder, endings=('.jpg', '.png', '.pdf', '.svg', '.npz', '.gif')):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix in endings}


# None replaces another one


@pytest.mark.parametrize(
    'command, first, others',
    [
        (
            'complete',
            ['clip.mkv', '--mask-box', '0,16,0,56,0,56'],
            [['clip.mkv', '--mask-box', '0,8,0,56,0,56'], ['clip.mkv', '--mask-box', '0,16,0,56,0,56', '--span', '8']],
        ),
        ('complete', ['clip.mkv', '--animate', 'gif'], [['clip.mkv', '--seed', '1', '--animate', 'gif']]),
        (
            'attend',
            ['image0.png', '--save-arrays'],
            [['image0.png', '--img-size', '56', '--format', 'png', '--save-arrays'], ['image0.png', 'OTHER']],
        ),
        ('pca', ['image0.png'], [['image0.png', 'image1.png'], ['image0.png', '--dtype', 'bfloat16']]),
    ],
)
def test_a_picture_of_other_settings_stays(videozoo, tmp_path, command, first, others):
    """One PCA of other files too, another checkpoint, and the arrays and animations beside pictures of any format."""
    assert videozoo(command, *first)[0] == 0
    (folder,) = (path for path in tmp_path.iterdir() if path.is_dir())
    before, (table,) = content(folder), folder.glob('*.csv')
    for other in others:
        files = dict(file='other') if 'OTHER' in other else {}
        code, _, err = videozoo(command, *(word for word in other if word != 'OTHER'), **files)
        assert code == 0 and 'a digest is in the names of' in err
        after = content(folder)
        assert len(after) > len(before) and all(after[name] == before[name] for name in before)
        before = after
    rows = table_of(table)
    pictures = [name for name in before if name.endswith(('.jpg', '.png'))]
    assert sorted(row['picture'] for row in rows) == sorted(pictures)
    assert all(len(row['weights']) == len(row['checksum']) == 64 and row['torch'] and row['span'] for row in rows)
    assert all(row['mark'].encode() in before[row['picture']] for row in rows)
    code, _, err = videozoo(command, *first)  # its own
    assert code == 0 and 'digest' not in err and content(folder).keys() == before.keys()
    assert len(table_of(table)) == len(rows)


def test_a_row_tells_every_setting(videozoo, tmp_path):
    mask = np.zeros((8, 8, 8), bool)
    mask[:, 2:6] = True
    for name, columns in (('first', slice(2, 6)), ('second', slice(0, 4))):
        mask[:] = False
        mask[:, columns] = True
        np.save(tmp_path / 'mask.npy', mask)  # one name, two masks
        assert videozoo('complete', 'clip.mkv', '--mask-file', 'mask.npy', '--span', '8')[0] == 0, name
    assert videozoo('complete', 'clip.mkv', '--seed', '5', '--mask-ratio', '0.5')[0] == 0
    files = table_of(tmp_path / 'completions' / 'completions.csv')
    assert [row['mask'] for row in files] == ['file', 'file', 'random'] and len({row['picture'] for row in files}) == 3
    assert files[0]['mask_file'] == 'mask.npy' and files[0]['mask_digest'] != files[1]['mask_digest']
    assert (files[0]['span'], files[0]['seed'], files[2]['seed'], files[2]['mask_ratio']) == ('8', '', '5', '0.5')
    assert json.loads(files[0]['views'])['mean'] == [0.45] * 3 and files[0]['pyav']


def test_how_files_are_read_decides_too_and_json_stays_json(models, tmp_path):
    vit, reading = models[1]['vit_t14_st'], ReadingOptions(2, 60.0, color='file', background='white')
    settings = settings_of(vit, views_of(vit), reading)
    assert settings['background'] == '#ffffff' and 'num_workers' not in settings

    class Nothing:
        def save(self, path, about, **options):
            path.write_text(about)

    pictures = Pictures(None, 0, tmp_path, 'svg', 100, True, False)
    folder = PictureFolder(pictures, 'a.csv', settings, {})
    target = folder.add(Nothing(), 'cat.mp4', 'cat', 'full', dict(psnr=math.inf), 'title', [])
    text = target.read_text()
    told = json.loads(text[text.index('{') :], parse_constant=pytest.fail)
    assert told['psnr'] is None and table_of(tmp_path / 'a.csv')[0]['psnr'] == 'inf'


def test_the_rows_of_an_older_table_stay(videozoo, tmp_path):
    (tmp_path / 'attention').mkdir()
    table = tmp_path / 'attention' / 'attention.csv'
    table.write_text('picture,video,note\nold.jpg,old.mp4,mine\n')
    assert videozoo('attend', 'image0.png')[0] == 0
    row = table_of(table)[0]
    assert (row['picture'], row['note']) == ('old.jpg', 'mine')
    table.write_text('subject,age\n7,31\n')
    code, _, err = videozoo('attend', 'image0.png')
    assert code == 2 and 'attention.csv is no table of pictures' in err and table.read_text() == 'subject,age\n7,31\n'


def test_names_of_their_own(tmp_path):
    mine, other_run = Mark.of('/a/cat.mp4', dict(seed=0)), Mark.of('/a/cat.mp4', dict(seed=1))
    other_file = Mark.of('/b/cat.mp4', dict(seed=0))
    stems = ['cat', 'a_cat']
    apart = f'cat_{mine.settings[:8]}'

    def name(told=None):
        return own_stem(tmp_path, stems, mine, told or {})

    assert name() == 'cat'
    for there, want in (
        (mine, 'cat'),
        (other_run, apart),
        (other_file, 'a_cat'),
        ('videozoo 0123456789abcdef', 'a_cat'),  # of version 0.1, which says no settings
        ('a photograph', 'a_cat'),
    ):
        for ending in ('jpg', 'svg'):  # whatever the format
            path = tmp_path / f'cat.{ending}'
            path.write_text(f'... {there} ...')
            assert name() == want, (there, ending)
            path.unlink()
    (tmp_path / 'cat.npz').touch()  # without a picture that tells whose it is
    assert name() == 'a_cat'
    (tmp_path / 'cat.npz').unlink()
    assert name(dict(cat=other_run)) == apart  # the picture is gone, its row is not
    assert name({'cat': other_run, apart: mine}) == apart and name(dict(cat=mine)) == 'cat'
    with pytest.raises(ValueError, match='holds other pictures of the name'):
        name({'cat': other_run, apart: other_file})


def test_title_table_and_arrays_call_the_model_by_one_name(videozoo, tmp_path, monkeypatch):
    titles = []
    draw = Grid.__init__

    def seen(self, rows, captions=(), title='', **options):
        titles.append(title)
        draw(self, rows, captions, title, **options)

    monkeypatch.setattr(Grid, '__init__', seen)
    for command, table in (('complete', 'completions'), ('attend', 'attention'), ('pca', 'pca')):
        source = 'clip.mkv' if command == 'complete' else 'image0.png'
        assert videozoo(command, str(tmp_path / source), '--save-arrays')[0] == 0
        (row,) = table_of(tmp_path / table / f'{table}.csv')
        assert f'{source}, {row["model"]}, ' in titles[-1]
        picture = (tmp_path / table / row['picture']).read_bytes()
        assert source.encode() in picture and str(tmp_path).encode() not in picture  # it may be shown to others
        with np.load((tmp_path / table / row['picture']).with_suffix('.npz')) as arrays:
            settings = json.loads(str(arrays['settings']))
        assert settings['model'] == row['model'] and settings['checksum'] == row['checksum']
        assert videozoo(command, source, '--no-title')[0] == 0 and titles[-1] == ''


# For a paper


@pytest.fixture(scope='module')
def results():
    clip = torch.randn(3, 4, 56, 56, generator=torch.Generator().manual_seed(0)) / 4
    vit, mae = (
        timm.create_model(f'{kind}_t14_st', num_classes=0, num_frames=4, img_size=56).eval() for kind in ('vit', 'mae')
    )
    return dict(completion=complete(mae, clip), attention=attend(vit, clip), pca=pca(vit, clip)[0])


@pytest.mark.parametrize('kind', ['completion', 'attention', 'pca'])
def test_every_result_saves_every_format(results, kind, tmp_path):
    result = results[kind]
    for name in ('a.jpg', 'a.jpeg', 'a.png', 'a.pdf', 'a.svg', 'a.npz'):
        result.save(str(tmp_path / name), title='Title')
        first = (tmp_path / name).read_bytes()
        result.save(tmp_path / name, title='Title')
        assert (tmp_path / name).read_bytes() == first or name == 'a.npz'  # whose zip tells the time
    size = Image.open(tmp_path / 'a.png').size
    result.save(tmp_path / 'large.png', title='Title', dpi=300)
    large = Image.open(tmp_path / 'large.png')
    assert large.size == (3 * size[0], 3 * size[1]) and round(large.info['dpi'][0]) == 300
    left, top, right, bottom = (3 * side for side in result.picture('Title').box(0, 1))
    tile = np.array(large)[top:bottom, left:right]
    assert np.array_equal(tile[::3, ::3], tile[2::3, 2::3])  # every pixel thrice, none blurred
    page = (tmp_path / 'a.pdf').read_bytes()
    assert b'/FontFile2' in page and b'/Type3' not in page  # TrueType, inside
    drawing = (tmp_path / 'a.svg').read_text()
    assert '<text' not in drawing and 'DejaVuSans-' in drawing and 'data:image/png' in drawing
    for wrong in ('a.tiff', 'a', 'nowhere/a.png'):
        with pytest.raises(ValueError, match='must end in|no folder'):
            result.save(tmp_path / wrong)


def test_arrays_hold_what_is_shown(results, tmp_path):
    completion, maps, colors = (results[kind] for kind in ('completion', 'attention', 'pca'))
    completion.save(tmp_path / 'c.npz', settings=dict(seed=0))
    with np.load(tmp_path / 'c.npz') as saved:
        assert json.loads(str(saved['settings'])) == dict(seed=0) and saved['mask'].dtype == bool
        assert np.array_equal(saved['completed'], completion.completed) and saved['mse'] == completion.mse
    for heads in (False, True):
        maps.save(tmp_path / 'm.npz', heads=heads, threshold=0.5)
        with np.load(tmp_path / 'm.npz') as saved:
            shown = maps.maps(heads=heads, threshold=0.5)[..., ::2, ::14, ::14]
            assert np.array_equal(saved['maps'], shown) and np.array_equal(saved['weights'], maps.weights)
            assert saved['highest'].shape == ((len(maps.weights),) if heads else ())
    colors.save(tmp_path / 'p.npz')
    with np.load(tmp_path / 'p.npz') as saved:
        assert np.array_equal(saved['colors'], colors.colors) and saved['block'] == colors.block


def test_maps_have_a_scale_and_colored_heads_a_legend(models):
    vit = models[1]['vit_t14_st']
    image = torch.randn(3, 112, 112, generator=torch.Generator().manual_seed(0))
    picture = attend(vit, image).picture('title')
    pixels = np.array(picture.image)
    _, top, right, bottom = picture.box(0, 3)
    beside = pixels[top:bottom, right:]
    bar = next(beside[:, x] for x in range(beside.shape[1]) if (beside[:, x] != 255).any(axis=1).all())
    assert np.abs(bar[[0, -1]].astype(int) - colorbar()[[0, -1], 0]).max() <= 12  # bright above, dark below
    below = {tuple(color) for color in pixels[bottom + 20 :].reshape(-1, 3).tolist()}
    for head in range(4):
        alone = torch.zeros(4, 8, 8)
        alone[head] = 1
        hue = tuple((255 * strongest_head(alone)[:, 0, 0]).round().int().tolist())
        assert hue in below, head
    clip = attend(vit, image[:, None].expand(-1, 16, -1, -1))
    for heads, scales in ((False, 1), (True, 4)):
        assert len(clip.picture(heads=heads)._scales) == scales


def test_one_image_is_not_called_frames(models):
    vit = models[1]['vit_t14_st']
    image = torch.randn(3, 112, 112, generator=torch.Generator().manual_seed(0))
    for result in (pca(vit, image)[0], attend(vit, image)):
        picture = result.picture('title', ['1.50 s'])
        told = [*picture._labels, *picture._captions]
        assert not any('frames' in text for text in told) and any('image' in text for text in told)
        assert any('1.50 s' in text for text in told)  # of a video that an image encoder looks at


def test_long_titles_go_into_lines_and_nothing_is_cut_off():
    tiles = torch.full((1, 3, 56, 56), 0.5)
    for title in ('word ' * 60, 'unbroken' * 40):
        picture = Grid([('image', tiles)], title=title)
        pixels = np.array(picture.image)
        assert picture.width < 600 and len(picture._title) > 2
        for edge in (pixels[:2], pixels[-2:], pixels[:, :2], pixels[:, -2:]):
            assert (edge == 255).all()


def test_names_in_any_script(tmp_path, monkeypatch, caplog):
    assert fonts.drawable('Кошка γάτα cafe\u0301\nקטן قطة $x_1$') == 'Кошка γάτα café קטן قطة $x_1$'
    monkeypatch.setattr(fonts, 'installed_fonts', lambda: ())
    for function in (fonts.font_with, fonts._warn_once):
        function.cache_clear()
    with caplog.at_level(logging.WARNING):
        for name in ('猫.mp4', '犬.mp4', 'e\udcff🐱.mp4'):
            Grid([(name, torch.zeros(1, 3, 20, 20))], [name], name).save(tmp_path / 'a.pdf')
    assert fonts.drawable('猫.mp4') == r'\u732b.mp4' and len(caplog.records) == 1
    assert 'Noto Sans CJK' in caplog.text
    fonts.font_with.cache_clear()


@pytest.mark.parametrize('ending', ['ttf', 'otf'])
def test_an_installed_font_is_used_for_what_the_first_lacks(tmp_path, monkeypatch, recwarn, ending):
    path = font_of('猫', tmp_path / f'Block.{ending}')
    monkeypatch.setattr(fonts, 'installed_fonts', lambda: (str(tmp_path / 'gone.ttf'), str(path)))
    fonts.font_with.cache_clear()
    assert fonts.runs('a 猫 b') == [('a ', fonts.base_font()), ('猫 ', str(path)), ('b', fonts.base_font())]
    picture = Grid([('', torch.ones(1, 3, 40, 40))], title='猫')
    black = (np.array(picture.image) == 0).all(axis=2)
    rows, columns = np.nonzero(black)
    assert len(rows) > 50 and black[rows.min() : rows.max(), columns.min() : columns.max()].all()  # the block
    picture.save(tmp_path / 'a.pdf')
    text_stays = b'FontFile2' in (tmp_path / 'a.pdf').read_bytes()
    assert text_stays == (ending == 'ttf')  # others become outlines
    save_confusion(np.eye(2, dtype=int), ['猫', 'cat'], tmp_path / 'c.svg')
    assert not [one for one in recwarn if 'Glyph' in str(one.message)]
    fonts.font_with.cache_clear()


def font_of(char, path):
    """A font that has a full block for one character."""
    from fontTools.fontBuilder import FontBuilder
    from fontTools.pens.ttGlyphPen import TTGlyphPen

    builder, pen, empty = FontBuilder(1000, isTTF=True), TTGlyphPen(None), TTGlyphPen(None)
    pen.moveTo((0, 0))
    for point in ((0, 800), (900, 800), (900, 0)):
        pen.lineTo(point)
    pen.closePath()
    builder.setupGlyphOrder(['.notdef', 'space', 'block'])
    builder.setupCharacterMap({ord(' '): 'space', ord(char): 'block'})
    builder.setupGlyf({'.notdef': empty.glyph(), 'space': empty.glyph(), 'block': pen.glyph()})
    builder.setupHorizontalMetrics({name: (1000, 0) for name in ('.notdef', 'space', 'block')})
    builder.setupHorizontalHeader(ascent=900, descent=-100)
    builder.setupNameTable(dict(familyName='Block', styleName='Regular', psName='Block-Regular'))
    builder.setupOS2()
    builder.setupPost()
    builder.save(path)
    return path


def test_a_picture_that_no_jpeg_can_hold_is_refused_in_words(tmp_path):
    picture = Grid([('', torch.zeros(32, 3, 8, 180))])
    with pytest.raises(ValueError, match=r'more than a JPEG holds \(65500 on a side\); take a smaller dpi'):
        picture.save(tmp_path / 'a.jpg', dpi=1200)
    assert not list(tmp_path.iterdir())
