"""Strangers' videos and pictures cost little, start nothing, and give what they show or an error that names them."""

import math
import os
import shutil
import struct
import tracemalloc
from itertools import islice

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import CLIPS
from PIL import Image, TiffImagePlugin
from test_video import av, numbers, write_video

from videozoo_timm.cli import main
from videozoo_timm.video import (
    Augmentation,
    Job,
    Sampling,
    VideoError,
    Views,
    augment_clip,
    class_folders,
    find_videos,
    load_views,
    prepare_clip,
    probe,
    read_clip,
    read_clips,
    read_image,
)

PLAIN = dict(mean=(0.0,) * 3, std=(1.0,) * 3)
SHORT = Sampling(num_frames=4, span=10)


# The end of what decodes


@pytest.fixture(scope='module')
def cut(tmp_path_factory):
    """Videos of 8 s, or what their headers say, of which 3/10 arrived."""
    folder, options = tmp_path_factory.mktemp('cut'), {}
    for name, codec in (('a.mkv', 'mpeg4'), ('a.webm', 'libvpx'), ('a.flv', 'flv'), ('a.mp4', 'mpeg4')):
        options = dict(movflags='faststart') if name == 'a.mp4' else {}
        path = folder / name
        with av.open(str(path), 'w', options=options) as container:
            stream = container.add_stream(codec, rate=30, options={'threads': '1', 'deadline': 'realtime', 'g': '15'})
            stream.width, stream.height, stream.pix_fmt = 64, 64, 'yuv420p'
            for n in range(240):
                image = np.random.default_rng(n).integers(0, 256, (64, 64, 3), np.uint8)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format='rgb24')))
            container.mux(stream.encode())
        data = path.read_bytes()
        path.write_bytes(data[: len(data) * 3 // 10])
    return folder


@pytest.mark.parametrize('name', ['a.mkv', 'a.webm', 'a.flv', 'a.mp4'])
def test_a_window_behind_the_end_of_a_file_gives_no_clip(cut, name):
    path = cut / name
    info = probe(path)
    assert info.duration == pytest.approx(8, abs=0.2) and 5 < info.lost < 6
    with pytest.raises(VideoError, match=rf'{name}: the file ends at 2\.\d s, the window starts at 3\.8 s: cut off'):
        read_clip(path, sampling=SHORT, start=3.8)
    assert read_clip(path, sampling=SHORT, start=1).times[0] == pytest.approx(1, abs=0.04)
    clip = read_clip(path, sampling=SHORT)  # of what is there
    assert 2 < clip.duration < 3 and clip.lost == pytest.approx(info.lost) and clip.start < clip.times[-1] < 2
    # Several clips, also where some are left out, and where a window that began before the end goes beyond it.
    for skip, sampling in ((0, SHORT), (1, SHORT), (0, Sampling(4, 128))):
        clips = read_clips(path, [0.5, 1.0, 3.5], sampling=sampling, skip=skip)
        assert [clip.start for clip in islice(clips, 2 - skip)] == [0.5, 1.0][skip:]
        with pytest.raises(VideoError, match='starts at 3.5 s'):
            next(clips)


def test_rows_of_a_time_course_end_with_the_file_and_random_windows_are_no_exception(cut):
    path = str(cut / 'a.mkv')
    for views in (
        Views(32, **PLAIN, sampling=SHORT, stride=0.5, align='start'),
        Views(32, **PLAIN, sampling=SHORT, num_clips=3),
        Views(32, **PLAIN, sampling=SHORT, jitter=(32, 40)),
        Views(32, **PLAIN, sampling=SHORT, augmentation=Augmentation()),
    ):
        for seed in range(8):
            *rows, (_, end) = load_views([Job(0, path, view_seed=seed)], views)
            assert end is None and all(view.start < view.duration < 3 and view.lost > 5 for _, view in rows)
            assert len(rows) == 1 or views.stride is None or 5 <= len(rows) <= 6


def test_windows_in_the_last_moments_of_a_sound_file_are_clips(tmp_path):
    slow = write_video(tmp_path / 'slow.mkv', 5, fps=1)  # the last frame is shown for a second
    for start in (3.9, 4.1, 4.9):
        assert numbers(read_clip(slow, sampling=SHORT, start=start))[0] == int(start)


@pytest.mark.parametrize(
    'name, codec, sound', [('a.mkv', 'mpeg4', 'aac'), ('a.flv', 'flv', 'aac'), ('a.webm', 'libvpx', 'libopus')]
)
def test_sound_that_goes_on_does_not_lengthen_the_pictures(tmp_path, name, codec, sound):
    path = tmp_path / name
    with av.open(str(path), 'w') as container:
        video = container.add_stream(codec, rate=30, options={'threads': '1'})
        video.width, video.height, video.pix_fmt = 64, 64, 'yuv420p'
        rate = 48000 if sound == 'libopus' else 44100
        audio = container.add_stream(sound, rate=rate, layout='mono')
        for n in range(60):
            image = np.full((64, 64, 3), 4 * n, np.uint8)
            container.mux(video.encode(av.VideoFrame.from_ndarray(image, format='rgb24')))
        container.mux(video.encode())
        size = audio.codec_context.frame_size or 1024
        for n in range(20 * rate // size):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, size), np.float32), format='fltp', layout='mono')
            frame.sample_rate, frame.pts = rate, n * size
            container.mux(audio.encode(frame))
        container.mux(audio.encode())
    assert probe(path).duration == pytest.approx(2, abs=0.1)
    assert read_clip(path, sampling=SHORT).times.unique().numel() == 4


# Numbers in headers


def claiming(path, duration=None, scale=None):
    """A Matroska file whose header claims this Duration, in ticks of `scale` nanoseconds."""
    data = bytearray(path.read_bytes())
    if duration is not None:
        place = data.find(b'\x44\x89')
        assert data[place + 2] == 0x88
        data[place + 3 : place + 11] = struct.pack('>d', duration)
    if scale is not None:
        place = data.find(b'\x2a\xd7\xb1')
        size = data[place + 3] & 0x7F
        data[place + 4 : place + 4 + size] = scale.to_bytes(size, 'big')
    path.write_bytes(data)
    return path


@pytest.mark.parametrize('duration', [4e19, 3.2e11, -5.0, 0.0, math.nan, math.inf, -math.inf, 1e300])
@pytest.mark.parametrize('scale', [None, 1])
def test_a_length_that_cannot_be_true_is_counted(tmp_path, duration, scale):
    path = claiming(write_video(tmp_path / 'a.mkv', 60), duration, scale)
    try:
        clips = list(read_clips(path, Views(32, **PLAIN, stride=0.5).starts, sampling=SHORT))
    except VideoError as error:
        assert 'a.mkv: ' in str(error)
    else:
        assert len(clips) == 5 if scale is None else len(clips) < 100
        assert clips[0].duration == pytest.approx(2, abs=0.04) if scale is None else clips[0].duration < 50


def test_a_time_course_is_made_row_by_row_and_has_a_limit(monkeypatch):
    views = Views(32, **PLAIN, stride=0.1)
    starts = views.starts(900_000.0)
    assert len(starts) == 9_000_001 and starts[-1] > 800_000
    assert list(Views(32, **PLAIN, stride=2.0, align='start').starts(5.0)) == [0.0, 2.0, 4.0]
    with pytest.raises(ValueError, match=r'10,000,000 clips .* VIDEOZOO_MAX_CLIPS'):
        views.starts(4e19)
    monkeypatch.setenv('VIDEOZOO_MAX_CLIPS', '20')
    with pytest.raises(ValueError, match='than the 20 clips'):
        views.starts(5.0)
    assert len(views.starts(1.95)) == 20


def test_a_display_matrix_of_nothing_turns_nothing(tmp_path):
    plain = CLIPS / 'odd' / 'one_frame.mp4'
    data = bytearray(plain.read_bytes())
    place = data.find(b'tkhd') + 44
    data[place : place + 36] = bytes(36)
    (tmp_path / 'a.mp4').write_bytes(data)
    assert torch.equal(read_clip(tmp_path / 'a.mp4').frames, read_clip(plain).frames)


# Sizes


def whole_then_crop(frames, size, short_side, mode, antialias):
    """As published: [T, H, W, C] -> [C, T, size, size], in 0..1."""
    height, width = frames.shape[1:3]
    if height > width:
        target = math.floor(height / width * short_side), short_side
    else:
        target = short_side, math.floor(width / height * short_side)
    x = frames.permute(0, 3, 1, 2)
    x = F.interpolate(x if antialias else x.float(), target, mode=mode, antialias=antialias, align_corners=False)
    top, left = math.ceil((target[0] - size) / 2), math.ceil((target[1] - size) / 2)
    return x[..., top : top + size, left : left + size].float().div(255).transpose(0, 1)


SHAPES = [(37, 91), (91, 37), (23, 500), (719, 1283), (301, 15), (48, 47), (1, 60)]


@pytest.fixture(params=[*((shape, 1) for shape in SHAPES), ((719, 1283), 2)])
def shape(request):
    """A shape, with a number of threads, on which the last bits of torch's places depend."""
    shape, number = request.param
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    yield shape
    torch.set_num_threads(before)


def test_cropping_first_gives_what_resizing_the_whole_gives(shape):
    frames = torch.randint(0, 256, (2, *shape, 3), dtype=torch.uint8)
    for size, short_side in ((56, 64), (41, 41), (112, 127)):
        ours = prepare_clip(frames, size, short_side=short_side, mean=0.45, std=0.225)
        theirs = (whole_then_crop(frames, size, short_side, 'bilinear', False) - 0.45) / 0.225
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)
        for name, mode in (('bicubic', 'bicubic'), ('pil-bilinear', 'bilinear')):
            ours = prepare_clip(frames, size, short_side=short_side, interpolation=name, **PLAIN)
            assert torch.equal(ours, whole_then_crop(frames, size, short_side, mode, True)), name


def test_narrow_pictures_cost_little_or_are_refused(monkeypatch):
    for shape in ((10, 100_000), (100_000, 10)):
        frames = torch.zeros(1, *shape, 3, dtype=torch.uint8)
        with pytest.raises(ValueError, match=r'100000.* one side is more than 200 times .*VIDEOZOO_MAX_RATIO'):
            prepare_clip(frames, 224, **PLAIN)
    monkeypatch.setenv('VIDEOZOO_MAX_RATIO', '100000')
    sizes, plain = [], torch.Tensor.index_select
    monkeypatch.setattr(torch.Tensor, 'index_select', lambda *args: sizes.append(plain(*args)) or sizes[-1])
    for shape in ((10, 100_000), (100_000, 10)):
        prepare_clip(torch.zeros(1, *shape, 3, dtype=torch.uint8), 224, **PLAIN)
    assert sizes and max(x.numel() for x in sizes) <= 3 * 224 * 224


def png_of(width, height):
    """A PNG of a few bytes that says to be this large."""
    import zlib

    def chunk(kind, data):
        return struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(kind + data))

    header = struct.pack('>IIBBBBB', width, height, 8, 2, 0, 0, 0)
    return b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', header) + chunk(b'IDAT', zlib.compress(b'')) + chunk(b'IEND', b'')


@pytest.mark.filterwarnings('error')
@pytest.mark.parametrize(
    'size, message',
    [
        ((60_000, 60_000), r'200,000,000 .*VIDEOZOO_MAX_PIXELS'),
        ((15_000, 14_000), '200,000,000'),
        ((100_000, 10), '200 times'),
        ((10, 100_000), '200 times'),
    ],
)
def test_a_picture_that_claims_too_much_is_refused_before_it_is_decoded(tmp_path, size, message):
    path = tmp_path / 'bomb.png'
    path.write_bytes(png_of(*size))
    tracemalloc.start()
    with pytest.raises(VideoError, match=rf'bomb.png: .*{message}'):
        read_image(path)
    assert tracemalloc.get_traced_memory()[1] < 1e7
    tracemalloc.stop()


def test_limits_can_be_moved(tmp_path, monkeypatch):
    wide = tmp_path / 'wide.png'
    Image.new('RGB', (410, 2)).save(wide)
    with pytest.raises(VideoError, match='200 times'):
        read_image(wide)
    monkeypatch.setenv('VIDEOZOO_MAX_RATIO', '205')
    assert read_image(wide).shape == (1, 2, 410, 3)
    monkeypatch.setenv('VIDEOZOO_MAX_PIXELS', '1000')
    assert read_image(wide).shape == (1, 2, 410, 3)
    with pytest.raises(VideoError, match=r'cat.mp4: 320 x 240 pixels are more than the limit of 1,000 '):
        read_clip(CLIPS / 'pans' / 'things' / 'cat.mp4')
    monkeypatch.setenv('VIDEOZOO_MAX_PIXELS', '1e3')
    with pytest.raises((VideoError, ValueError), match='VIDEOZOO_MAX_PIXELS.*whole number'):
        read_image(wide)


def test_panoramas_and_large_pictures_without_a_warning(tmp_path, recwarn, monkeypatch):
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 1000)  # Pillow refuses twice as much
    Image.new('RGB', (200, 100)).save(tmp_path / 'large.png')
    assert read_image(tmp_path / 'large.png').shape == (1, 100, 200, 3) and Image.MAX_IMAGE_PIXELS == 1000
    Image.new('RGB', (2_000, 20)).save(tmp_path / 'panorama.png')
    assert prepare_clip(read_image(tmp_path / 'panorama.png'), 56, **PLAIN).shape == (3, 1, 56, 56)
    assert not recwarn.list


def test_frames_larger_than_the_limit_are_not_decoded(tmp_path, monkeypatch):
    small, large = tmp_path / 'small.h264', tmp_path / 'large.h264'
    write_video(small, 20, codec='libx264')
    write_video(large, 20, codec='libx264', size=(256, 256))
    both = tmp_path / 'both.h264'
    both.write_bytes(small.read_bytes() + large.read_bytes())
    monkeypatch.setenv('VIDEOZOO_MAX_PIXELS', '10000')
    clip = read_clip(both, sampling=Sampling(3, 40), start=0)
    assert clip.frames.shape[1:3] == (64, 64) and clip.times[-1] < 20 / 30
    with pytest.raises(VideoError, match='large.h264: .*VIDEOZOO_MAX_PIXELS'):
        read_clip(large)


# What is opened


@pytest.mark.parametrize(
    'name, text',
    [
        ('a.ts', 'ffconcat version 1.0\nfile other.mkv\n'),
        ('a.m3u8', '#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:9,\nother.mkv\n#EXT-X-ENDLIST\n'),
        (
            'a.mpd',
            '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" profiles='
            '"urn:mpeg:dash:profile:isoff-on-demand:2011"><Period><AdaptationSet><Representation id="0">'
            '<BaseURL>other.mkv</BaseURL></Representation></AdaptationSet></Period></MPD>',
        ),
        (
            'a.mp4',
            'v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n'
            'a=rtpmap:96 H264/90000\n',
        ),
        ('a.png', ''),
        ('a%01d.png', ''),
    ],
)
def test_files_that_name_others_are_not_followed(tmp_path, monkeypatch, name, text):
    monkeypatch.chdir(tmp_path)
    write_video(tmp_path / 'other.mkv', 30)
    for picture in ('a.png', 'a1.png'):
        Image.new('RGB', (64, 48)).save(tmp_path / picture)
    path = tmp_path / name
    path.write_text(text) if text else Image.new('RGB', (64, 48)).save(path)
    for read in (read_clip, probe):
        with pytest.raises(VideoError, match='a.*: not a video'):
            read(path)


@pytest.mark.parametrize(
    'name',
    [
        'concat:other.mkv',
        'file:other.mkv',
        'subfile,,start,0,end,0,,:other.mkv',
        'http:other.mkv',
        'pipe:0',
        'crypto:a',
    ],
)
def test_a_name_is_a_files_name_and_no_address(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    write_video(tmp_path / 'other.mkv', 30)
    for read in (read_clip, probe, read_image):
        with pytest.raises(FileNotFoundError, match='no such file'):
            read(name)
    write_video(tmp_path / 'other.mkv', 30).rename(tmp_path / name)
    assert probe(name).width == 64


@pytest.mark.skipif(not hasattr(os, 'mkfifo'), reason='no pipes')
def test_pipes_and_devices_are_refused(tmp_path):
    for name in ('a.mp4', 'a.png'):
        os.mkfifo(tmp_path / name)
        os.symlink('/dev/zero', tmp_path / f'zero_{name}')
        for path in (tmp_path / name, tmp_path / f'zero_{name}', tmp_path):
            with pytest.raises(VideoError, match='not a file'):
                (read_clip if name == 'a.mp4' else read_image)(path)


@pytest.mark.parametrize('name, ending', [('JPEG', '.png'), ('PNG', '.jpg'), ('TIFF', '.bmp'), ('WEBP', '.jpg')])
def test_pictures_are_known_by_what_they_hold(tmp_path, name, ending):
    Image.new('RGB', (64, 48), (255, 0, 0)).save(tmp_path / f'a{ending}', name)
    assert read_image(tmp_path / f'a{ending}')[0, 0, 0].tolist()[0] > 250


@pytest.mark.parametrize(
    'data',
    [
        b'%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 100 100\n%%EndComments\nshowpage\n%%EOF\n',
        b'P6\n2 2\n255\n' + bytes(12),
        b'/* XPM */\nstatic char *x[] = {"1 1 1 1", "a c #000000", "a"};\n',
    ],
)
def test_no_other_formats_are_handed_to_pillow(tmp_path, monkeypatch, data):
    from PIL import EpsImagePlugin

    monkeypatch.setattr(EpsImagePlugin, 'Ghostscript', lambda *args, **kwargs: pytest.fail('a program is started'))
    path = tmp_path / 'a.png'
    path.write_bytes(data)
    with pytest.raises(VideoError, match='a.png: not an image'):
        read_image(path)


# Pictures with damage


def jpeg_with(path, entries, orientation=6):
    """A JPEG of 64 x 48 with an EXIF block of these further entries."""
    Image.new('RGB', (64, 48)).save(path, 'JPEG')
    data = path.read_bytes()
    entries = [struct.pack('<HHI4s', 0x112, 3, 1, bytes([orientation, 0, 0, 0])), *entries]
    exif = b'Exif\0\0II*\0\x08\0\0\0' + struct.pack('<H', len(entries)) + b''.join(entries) + bytes(4)
    path.write_bytes(data[:2] + b'\xff\xe1' + struct.pack('>H', len(exif) + 2) + exif + data[2:])
    return path


@pytest.mark.parametrize(
    'entry',
    [
        struct.pack('<HHI4s', 0x100, 12, 1, b'\x08\0\0\0'),  # a width in floating point
        struct.pack('<HHI4s', 0x11A, 5, 1, b'\xff\xff\xff\xff'),  # behind the end of the block
        struct.pack('<HHI4s', 0x8769, 4, 1, b'\x08\0\0\0'),  # a block that holds itself
        struct.pack('<HHI4s', 0x128, 2, 4, b'abcd'),
    ],
)
def test_of_exif_nothing_but_the_orientation_matters(tmp_path, entry):
    path = jpeg_with(tmp_path / 'a.jpg', [entry])
    assert read_image(path).shape == (1, 64, 48, 3)


def test_orientations(tmp_path):
    pixels = torch.randint(0, 256, (48, 64, 3), dtype=torch.uint8)
    for orientation in range(10):
        exif = Image.Exif()
        exif[0x112] = orientation
        for name in ('a.png', 'a.tif'):
            Image.fromarray(pixels.numpy()).save(tmp_path / name, exif=exif)
            want = {
                2: pixels.flip(1),
                3: pixels.flip(0, 1),
                4: pixels.flip(0),
                5: pixels.transpose(0, 1),
                6: pixels.rot90(-1),
                7: pixels.transpose(0, 1).flip(0, 1),
                8: pixels.rot90(1),
            }
            assert torch.equal(read_image(tmp_path / name)[0], want.get(orientation, pixels)), (name, orientation)


def test_whatever_pillow_raises_names_the_file(tmp_path, monkeypatch):
    path = tmp_path / 'a.png'
    Image.new('RGB', (64, 48)).save(path)
    data = path.read_bytes()
    path.write_bytes(data[:50])
    with pytest.raises(VideoError, match='a.png: cannot be read as an image'):
        read_image(path)
    path.write_bytes(data)
    for error in (RecursionError('deep'), struct.error('odd'), OverflowError('large'), KeyError('tag'), EOFError()):

        def load(self, error=error):
            raise error

        monkeypatch.setattr('PIL.PngImagePlugin.PngImageFile.load', load)
        with pytest.raises(VideoError, match='a.png: cannot be read as an image'):
            read_image(path)


# Drawn videos


@pytest.mark.parametrize(
    'spec',
    [
        'drawn:99999999999',
        'drawn:1e9',
        'drawn:-3',
        'drawn:1000001',
        'drawn:3@-1',
        'drawn:3/up/..',
        'drawn:3/up/1/2',
        'drawn:' + '9' * 5000,
        'drawn:3@' + '9' * 5000,
        'drawn:0/up/' + '9' * 5000,
        'drawn:\u0663',
    ],
)
def test_absurd_numbers_of_drawn_videos_are_refused_with_the_limit(spec):
    with pytest.raises(ValueError, match='at most 1,000,000, SEED has at most 18 digits') as caught:
        find_videos(spec)
    assert len(str(caught.value)) < 300
    if '/' in spec:
        with pytest.raises(ValueError, match='at most 18 digits'):
            read_clip(spec)


@pytest.mark.parametrize(
    'option, value, limit',
    [
        ('--num', '99999999999', '1,000,000'),
        ('--size', '1000000', '2,048'),
        ('--seed', '1' * 19, '18 digits'),
        ('--seed', '9' * 5000, '--seed'),
    ],
)
def test_absurd_numbers_of_draw_are_refused_with_the_limit(tmp_path, capsys, option, value, limit):
    try:
        code = main(['draw', '--out', str(tmp_path / 'out'), option, value])
    except SystemExit as error:
        code = error.code
    assert code == 2 and not (tmp_path / 'out').exists()
    assert limit in capsys.readouterr().err


def test_a_crop_for_training_is_the_same_as_before():
    frames = torch.randint(0, 256, (3, 61, 83, 3), dtype=torch.uint8)
    from torchvision.transforms import RandomResizedCrop

    augmentation = Augmentation(hflip=0.0)
    for interpolation, mode, antialias in (('bilinear', 'bilinear', False), ('bicubic', 'bicubic', True)):
        ours = augment_clip(frames, 32, augmentation, 5, **PLAIN, interpolation=interpolation)
        x = frames.permute(0, 3, 1, 2)
        torch.manual_seed(5)
        top, left, height, width = RandomResizedCrop.get_params(x, augmentation.scale, augmentation.ratio)
        x = x[:, :, top : top + height, left : left + width]
        x = F.interpolate(x if antialias else x.float(), (32, 32), mode=mode, antialias=antialias, align_corners=False)
        torch.testing.assert_close(ours, x.float().div(255).transpose(0, 1), atol=1e-5, rtol=0)


@pytest.mark.parametrize('kind', ['float32', 'int32'])
def test_pixels_of_32_bits_are_refused_in_words(tmp_path, kind):
    Image.fromarray(np.arange(64, dtype=kind).reshape(8, 8)).save(tmp_path / 'wide.tif')
    with pytest.raises(VideoError, match='wide.tif: has 32-bit pixels.*8 or 16 bits'):
        read_image(tmp_path / 'wide.tif')


def test_files_that_are_called_like_synthetic_videos_are_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copy(CLIPS / 'odd' / 'one_frame.mp4', 'drawn:x.mp4')
    (tmp_path / 'drawn:1000').mkdir()
    shutil.copy(CLIPS / 'odd' / 'one_frame.mp4', 'drawn:1000/a.mp4')
    assert [path.name for path in find_videos('.')] == ['a.mp4', 'drawn:x.mp4']
    assert [path.name for path in find_videos(find_videos('.'))] == ['a.mp4', 'drawn:x.mp4']
    assert [path.name for path in find_videos('drawn:x.mp4')] == ['drawn:x.mp4']
    folders = class_folders('.')
    assert folders.classes == ['drawn:1000'] and [os.path.basename(path) for path in folders.paths] == ['a.mp4']
    with pytest.raises(ValueError, match="no motion 'foo'"):
        find_videos('drawn:0/foo/1')


def test_tiles_larger_than_their_picture_are_refused(tmp_path):
    kinds = TiffImagePlugin.ImageFileDirectory_v2()
    for tag in (65000, 65001):
        kinds[tag], kinds.tagtype[tag] = 46336, 4
    Image.fromarray(np.zeros((64, 64), np.uint8)).save(tmp_path / 'x.tif', tiffinfo=kinds)
    data = (tmp_path / 'x.tif').read_bytes()
    for before, after in ((65000, 322), (65001, 323)):  # width and height of tiles
        assert data.count(struct.pack('<HHI', before, 4, 1)) == 1
        data = data.replace(struct.pack('<HHI', before, 4, 1), struct.pack('<HHI', after, 4, 1))
    (tmp_path / 'x.tif').write_bytes(data)
    with pytest.raises(VideoError, match='x.tif: 46336 x 46336 pixels'):
        read_image(tmp_path / 'x.tif')
