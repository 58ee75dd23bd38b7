"""Frames have the colors, the shape and the orientation that a player shows, and nothing transparent is seen."""

import dataclasses
import io
import json
import struct
import zlib
from fractions import Fraction

import numpy as np
import pytest
import torch
from PIL import Image
from test_video import av

from videozoo_timm.video import (
    Job,
    Pixels,
    Reading,
    Sampling,
    VideoError,
    View,
    Views,
    load_views,
    probe,
    pyav_version,
    read_clip,
    read_image,
)
from videozoo_timm.video.pixels import _conversion, shown_size

ONE = Sampling(num_frames=1, span=1)
SHADES = [(80, 100, 180), (120, 150, 110), (60, 140, 130), (200, 128, 128)]  # Y, U, V of 8 bits
# Red and blue of the sum that is luma, by FFmpeg's numbers of the matrices.
WEIGHTS = {1: (0.2126, 0.0722), 4: (0.30, 0.11), 5: (0.299, 0.114), 6: (0.299, 0.114), 7: (0.212, 0.087)}
WEIGHTS |= dict.fromkeys((9, 10), (0.2627, 0.0593))
LIMITED, FULL = 1, 2


def rgb_of(shade, matrix, span, bits=8):
    """The definition: R'G'B' of a shade, in 0..255."""
    red, blue = WEIGHTS[matrix]
    y, u, v = (value << (bits - 8) for value in shade)
    if span == FULL:
        y, u, v = y / (2**bits - 1), (u - 2 ** (bits - 1)) / (2**bits - 1), (v - 2 ** (bits - 1)) / (2**bits - 1)
    else:
        unit = 2 ** (bits - 8)
        y, u, v = (y / unit - 16) / 219, (u / unit - 128) / 224, (v / unit - 128) / 224
    r, b = y + 2 * (1 - red) * v, y + 2 * (1 - blue) * u
    return np.clip([255 * r, 255 * (y - red * r - blue * b) / (1 - red - blue), 255 * b], 0, 255)


def write_shades(path, form='yuv420p', matrix=2, span=0, size=(64, 48), codec='ffv1'):
    """A lossless video whose frames are of one of `SHADES` each, tagged as is said (2 and 0: not at all)."""
    width, height = size
    with av.open(str(path), 'w') as container:
        stream = container.add_stream(codec, rate=30, options={'threads': '1'})
        stream.width, stream.height, stream.pix_fmt = width, height, form
        stream.codec_context.colorspace, stream.codec_context.color_range = matrix, span
        for n, shade in enumerate(SHADES):
            frame = av.VideoFrame(width, height, form)
            kind, bits = (np.uint16, 10) if '10' in form else (np.uint8, 8)
            for plane, value in zip(frame.planes, (*shade, 255), strict=False):
                size_of = plane.buffer_size // kind().itemsize
                plane.update(np.full(size_of, value << (bits - 8), kind).tobytes())
            frame.colorspace, frame.color_range, frame.pts, frame.time_base = matrix, span, n, Fraction(1, 30)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def shades_of(path, **fields):
    frames = read_clip(path, sampling=Sampling(len(SHADES), len(SHADES)), start=0, **fields).frames
    return frames[:, 20, 20].numpy()  # [T, 3]


def expect(got, matrix, span, bits=8):
    assert np.abs(got - np.array([rgb_of(shade, matrix, span, bits) for shade in SHADES])).max() < 3


# Colors


@pytest.mark.parametrize('form', ['yuv420p', 'yuv422p', 'yuv444p', 'yuv420p10le', 'yuv444p10le'])
@pytest.mark.parametrize('matrix', sorted(WEIGHTS))
def test_colors_are_those_that_the_file_says(tmp_path, form, matrix):
    for span in (LIMITED, FULL):
        path = write_shades(tmp_path / f'{span}.mkv', form, matrix, span)
        expect(shades_of(path), matrix, span, 10 if '10' in form else 8)
        expect(shades_of(path, color='published'), 5, LIMITED, 10 if '10' in form else 8)


@pytest.mark.parametrize(
    'size, matrix',
    [((64, 48), 5), ((720, 576), 5), ((1024, 576), 5), ((1280, 544), 1), ((608, 720), 1), ((720, 578), 1)],
)
def test_what_is_not_said_depends_on_the_size(tmp_path, size, matrix):
    path = write_shades(tmp_path / 'a.mkv', size=size)
    expect(shades_of(path), matrix, LIMITED)
    expect(shades_of(path, color='published'), 5, LIMITED)


def test_jpeg_and_gray_are_of_full_range(tmp_path):
    expect(shades_of(write_shades(tmp_path / 'a.mkv', 'yuvj420p', span=FULL, codec='mjpeg')), 5, FULL)
    levels = np.array([shade[0] for shade in SHADES])[:, None]
    assert np.abs(shades_of(write_shades(tmp_path / 'b.mkv', 'gray')) - levels).max() <= 1


def test_colors_that_cannot_be_converted_are_refused_in_words(tmp_path):
    path = write_shades(tmp_path / 'a.mkv', 'yuv444p', matrix=8)
    with pytest.raises(VideoError, match=r"a\.mkv: its colors are YCgCo.*color='published'"):
        shades_of(path)
    expect(shades_of(path, color='published'), 5, LIMITED)


def test_nothing_is_left_to_the_defaults_of_a_pyav():
    """Below version 17 PyAV ignores matrix and range where the two matrices are the same."""
    for matrix in WEIGHTS:
        for span in (0, LIMITED, FULL):
            frame = av.VideoFrame(64, 48, 'yuv420p')
            frame.colorspace, frame.color_range = matrix, span
            stated = _conversion('a.mp4', frame, 'file')
            assert stated['src_colorspace'] != stated['dst_colorspace']
            assert stated['src_color_range'] == (span or LIMITED) and stated['dst_color_range'] == FULL


def test_workers_and_this_process_see_the_same_colors(tmp_path):
    path = str(write_shades(tmp_path / 'a.mkv', matrix=1, span=FULL))
    views = Views(48, mean=(0.0,) * 3, std=(1.0,) * 3, sampling=ONE, short_side=48)
    seen = {}
    for color in ('file', 'published'):
        here, there = (
            next(item for _, item in load_views([Job(0, path)], views, num_workers=number, color=color))
            for number in (0, 1)
        )
        assert isinstance(here, View) and isinstance(there, View) and torch.equal(here.x, there.x)
        seen[color] = 255 * here.x[:, 20, 20].numpy()
    assert np.abs(seen['file'] - rgb_of(SHADES[1], 1, FULL)).max() < 3
    assert np.abs(seen['published'] - rgb_of(SHADES[1], 5, LIMITED)).max() < 3


# Transparency

LOOK = [(255, 0, 0, 0), (255, 255, 255, 128), (30, 200, 30, 255)]  # columns: red that is not seen, half of white, green


def columns():
    image = np.zeros((48, 66, 4), np.uint8)
    for k, color in enumerate(LOOK):
        image[:, 22 * k : 22 * (k + 1)] = color
    return image


def write_transparent(path, codec, form, **options):
    with av.open(str(path), 'w') as container:
        stream = container.add_stream(codec, rate=30, options=options)
        stream.width, stream.height, stream.pix_fmt = 66, 48, form
        for n in range(3):
            frame = av.VideoFrame.from_ndarray(columns(), format='rgba')
            if form != 'rgba':
                frame = frame.reformat(format=form, dst_colorspace=5, dst_color_range=LIMITED)
            frame.pts, frame.time_base = n, Fraction(1, 30)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def seen(frames):
    return frames[0, 24, [6, 33, 60]].numpy().astype(int)


@pytest.mark.parametrize(
    'name, codec, form, options',
    [
        ('a.mov', 'qtrle', 'argb', {}),
        ('a.mov', 'png', 'rgba', {}),
        ('a.avi', 'png', 'rgba', {}),
        ('a.mov', 'prores_ks', 'yuva444p10le', dict(profile='4444')),
        ('a.mkv', 'ffv1', 'yuva420p', {}),
        ('a.mkv', 'ffv1', 'gbrap10le', {}),
        ('a.avi', 'utvideo', 'gbrap', {}),
        ('a.webm', 'libvpx', 'yuva420p', {'auto-alt-ref': '0', 'crf': '4', 'b': '4M'}),
        ('a.webm', 'libvpx-vp9', 'yuva420p', {'crf': '4', 'b': '4M', 'deadline': 'realtime'}),
    ],
)
def test_transparent_parts_of_videos_are_laid_on_the_background(tmp_path, name, codec, form, options):
    path = write_transparent(tmp_path / name, codec, form, **options)
    for background, want in (
        ('black', [(0, 0, 0), (128,) * 3, LOOK[2][:3]]),
        ('white', [(255,) * 3, (255,) * 3, LOOK[2][:3]]),
        ((200, 100, 0), [(200, 100, 0), (228, 178, 128), LOOK[2][:3]]),
    ):
        got = seen(read_clip(path, sampling=ONE, start=0, background=background).frames)
        assert np.abs(got - want).max() < 5, background
    assert np.abs(seen(read_clip(path, sampling=ONE, start=0, color='published').frames)[0] - LOOK[0][:3]).max() < 6


def test_transparent_parts_of_an_animated_gif_are_laid_on_the_background(tmp_path):
    frames = []
    for n in range(3):
        image = Image.new('RGBA', (64, 64), (240, 30, 10, 0))
        image.paste((30, 200, 30, 255), (40 - n, 0, 64, 64))
        frames.append(image)
    frames[0].save(tmp_path / 'a.gif', save_all=True, append_images=frames[1:], disposal=2, duration=40)
    for background, value in (('black', 0), ('white', 255)):
        clip = read_clip(tmp_path / 'a.gif', sampling=ONE, start=0, background=background)
        assert clip.frames[0, 5, 5].tolist() == [value] * 3 and clip.frames[0, 5, 60].tolist() == [30, 200, 30]


def png(color_type, bits, row, key):
    """A PNG of one row, whose transparent color `key` is."""

    def chunk(kind, data):
        return struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(kind + data))

    width = len(row) * 8 // (bits * {0: 1, 2: 3}[color_type])
    header = struct.pack('>IIBBBBB', width, 1, bits, color_type, 0, 0, 0)
    data = chunk(b'tRNS', key) + chunk(b'IDAT', zlib.compress(b'\0' + row))
    return b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', header) + data + chunk(b'IEND', b'')


@pytest.mark.parametrize(
    'data, on_white',
    [
        (png(0, 1, b'\x40', b'\0\1'), [[0], [255], [0], [0], [0], [0], [0], [0]]),
        (png(0, 2, b'\x1b', b'\0\2'), [[0], [85], [255], [255]]),
        (png(0, 4, b'\x3c', b'\0\x0c'), [[51], [255]]),
        (png(0, 8, b'\x3c\xc0', b'\0\xc0'), [[60], [255]]),
        (png(0, 16, b'\x3c\x00\x40\x01\x40\x02', b'\x40\x01'), [[59], [255], [63]]),
        (png(2, 8, b'\1\2\3\x10\x20\x30', b'\0\x10\0\x20\0\x30'), [[1, 2, 3], [255] * 3]),
        (png(2, 16, b'\1\1\2\2\3\3\x10\x10\x20\x20\x30\x30', b'\x10\x10\x20\x20\x30\x30'), [[1, 2, 3], [255] * 3]),
    ],
    ids=['1 bit', '2 bits', '4 bits', '8 bits', '16 bits', 'RGB', 'RGB of 16 bits'],
)
def test_the_transparent_color_of_a_png_is_not_seen(tmp_path, data, on_white):
    (tmp_path / 'a.png').write_bytes(data)
    want = [pixel * (3 // len(pixel)) for pixel in on_white]
    assert read_image(tmp_path / 'a.png', background='white')[0, 0].tolist() == want
    black = read_image(tmp_path / 'a.png')[0, 0].tolist()
    assert [0, 0, 0] in black and (len(want) == 8 or black != want)


def image_files(folder):
    """Images that look as `LOOK`, in all the ways that keep transparency."""
    look = Image.fromarray(columns())
    look.save(folder / 'a.png')
    look.save(folder / 'a.webp', lossless=True, exact=True)
    look.save(folder / 'a.tif')
    palette = Image.fromarray(np.repeat(np.arange(3, dtype=np.uint8), 22)[None].repeat(48, 0), 'P')
    palette.putpalette([value for color in LOOK for value in color[:3]])
    palette.save(folder / 'palette.png', transparency=bytes(color[3] for color in LOOK))
    premultiplied = columns()
    premultiplied[..., :3] = np.round(premultiplied[..., :3] * (premultiplied[..., 3:] / 255))
    Image.fromarray(premultiplied).save(folder / 'premultiplied.tif')
    data = bytearray((folder / 'premultiplied.tif').read_bytes())
    place = data.find(struct.pack('<HHIH', 338, 3, 1, 2))
    data[place + 8] = 1  # of unassociated alpha associated one
    (folder / 'premultiplied.tif').write_bytes(data)
    return sorted(folder.iterdir())


@pytest.mark.filterwarnings('ignore::DeprecationWarning')
def test_transparent_parts_of_images_are_laid_on_the_background(tmp_path):
    files = image_files(tmp_path)
    assert len(files) == 5
    for path in files:
        assert np.abs(seen(read_image(path)) - [(0, 0, 0), (128,) * 3, LOOK[2][:3]]).max() <= 1, path.name
        assert np.abs(seen(read_image(path, background='#ffffff')) - [(255,) * 3, (255,) * 3, LOOK[2][:3]]).max() <= 1
    grays = Image.fromarray(np.array([[[255, 0], [255, 128]]], np.uint8), 'LA')
    grays.save(tmp_path / 'gray.png')
    assert read_image(tmp_path / 'gray.png')[0, 0].tolist() == [[0] * 3, [128] * 3]


def test_a_background_is_a_color():
    assert Pixels(background='white') == Pixels(background=(255, 255, 255)) == Pixels(background='#FFFFFF')
    assert Reading(background=[1, 2, 3]).background == '#010203'
    for background in ('reed', '#12345', (1, 2), (1, 2, 300), ''):
        with pytest.raises(ValueError, match=r'background=.*: must be black, gray, white, or a color such as #8040ff'):
            Reading(background=background)
    with pytest.raises(ValueError, match="color='bt709': must be file or published"):
        Reading(color='bt709')
    with pytest.raises(ValueError, match="background='#ffffff'.*color='published'|background='white'.*'published'"):
        Reading(color='published', background='white')


# Shape and orientation


def write_quarters(path, aspect=None):
    """A lossless video of 96 x 64 pixels, of one color in each quarter."""
    image = np.zeros((64, 96, 3), np.uint8)
    image[:32, :48], image[:32, 48:] = (220, 30, 30), (30, 200, 30)
    image[32:, :48], image[32:, 48:] = (40, 40, 220), (220, 220, 40)
    with av.open(str(path), 'w') as container:
        stream = container.add_stream('png', rate=30)
        stream.width, stream.height, stream.pix_fmt = 96, 64, 'rgb24'
        if aspect:
            stream.codec_context.sample_aspect_ratio = aspect
        for _ in range(2):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format='rgb24')))
        container.mux(stream.encode())
    return image


def set_matrix(path, a, b, c, d):
    data = bytearray(path.read_bytes())
    place = data.find(b'tkhd') + 44
    numbers = [round(value * 65536) for value in (a, b, 0, c, d, 0, 0, 0)]
    data[place : place + 36] = struct.pack('>9i', *numbers, 1 << 30)
    path.write_bytes(data)


@pytest.mark.parametrize(
    'a, b, c, d', [(a, 0, 0, d) for a in (1, -1) for d in (1, -1)] + [(0, b, c, 0) for b in (1, -1) for c in (1, -1)]
)
def test_frames_are_turned_and_mirrored_as_the_matrix_says(tmp_path, a, b, c, d):
    path = tmp_path / 'a.mov'
    image = write_quarters(path)
    set_matrix(path, a, b, c, d)
    y, x = np.mgrid[:64, :96]
    right, down = a * x + c * y, b * x + d * y  # as the QuickTime specification has it
    want = np.zeros((np.ptp(down) + 1, np.ptp(right) + 1, 3), np.uint8)
    want[down - down.min(), right - right.min()] = image
    assert np.array_equal(read_clip(path, sampling=ONE, start=0).frames[0].numpy(), want)
    assert (probe(path).height, probe(path).width) == want.shape[:2]


def test_of_other_angles_the_nearest_right_one_is_taken(tmp_path):
    path = tmp_path / 'a.mov'
    image = write_quarters(path)
    for degrees, turns in ((10, 0), (-80, 1), (100, 3), (170, 2)):
        cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
        set_matrix(path, cos, sin, -sin, cos)
        got = read_clip(path, sampling=ONE, start=0, color='published').frames[0].numpy()
        assert np.array_equal(got, np.rot90(image, turns)), degrees


@pytest.mark.parametrize('aspect, width', [(Fraction(4, 3), 128), (Fraction(8, 9), 85), (Fraction(1, 2), 48)])
def test_pixels_become_square(tmp_path, aspect, width):
    path = tmp_path / 'a.mov'
    image = write_quarters(path, aspect)
    frame = read_clip(path, sampling=ONE, start=0).frames[0].numpy()
    assert frame.shape == (64, width, 3) and (probe(path).width, probe(path).height) == (width, 64)
    for row, column in ((16, 1), (16, 3), (48, 1), (48, 3)):
        assert np.abs(frame[row, width * column // 4].astype(int) - image[row, 24 * column]).max() <= 2
    plain = read_clip(path, sampling=ONE, start=0, color='published').frames[0].numpy()
    assert np.array_equal(plain, image) and probe(path, color='published').width == 96


def test_pixels_are_made_square_before_a_frame_is_turned(tmp_path):
    path = tmp_path / 'a.mov'
    write_quarters(path, Fraction(4, 3))
    set_matrix(path, 0, 1, -1, 0)
    assert read_clip(path, sampling=ONE, start=0).frames.shape == (1, 128, 64, 3)
    assert (probe(path).width, probe(path).height) == (64, 128)


def test_absurd_pixels_are_refused():
    with pytest.raises(VideoError, match=r'a\.mov: 28800 x 64 pixels: one side is more than 200 times the other'):
        shown_size('a.mov', av.VideoFrame(96, 64, 'rgb24'), Fraction(300, 1))


# Pictures of more than 8 bits


def gray_tiff(samples, bits, black_is_zero=True):
    """An uncompressed TIFF of one row; 12 bits are packed."""
    if bits == 12:
        text = ''.join(f'{sample:012b}' for sample in samples)
        data = int(text.ljust(-(-len(text) // 8) * 8, '0'), 2).to_bytes(-(-len(text) // 8), 'big')
    else:
        data = struct.pack(f'<{len(samples)}H', *samples)
    tags = {
        256: len(samples),
        257: 1,
        258: bits,
        259: 1,
        262: int(black_is_zero),
        273: 8,
        277: 1,
        278: 1,
        279: len(data),
    }
    entries = b''.join(struct.pack('<HHII', tag, 4 if tag == 273 else 3, 1, value) for tag, value in tags.items())
    place = 8 + len(data) + len(data) % 2
    return (
        struct.pack('<2sHI', b'II', 42, place)
        + data.ljust(place - 8, b'\0')
        + struct.pack('<H', len(tags))
        + entries
        + bytes(4)
    )


@pytest.mark.parametrize('bits, black_is_zero', [(12, True), (16, True), (16, False)])
def test_grays_of_many_bits_keep_their_shades(tmp_path, bits, black_is_zero):
    most = 2**bits - 1
    (tmp_path / 'a.tif').write_bytes(gray_tiff([0, most // 4, most // 2, most], bits, black_is_zero))
    levels = read_image(tmp_path / 'a.tif')[0, 0, :, 0].tolist()
    assert levels == ([0, 63, 127, 255] if black_is_zero else [255, 192, 128, 0])


def test_an_orientation_in_a_byte_is_one(tmp_path):
    image = io.BytesIO()
    Image.new('RGB', (40, 30)).save(image, 'JPEG')
    entry = struct.pack('>HHI', 0x112, 1, 1) + b'\x06\0\0\0'
    exif = b'Exif\0\0MM\0*\0\0\0\x08\0\1' + entry + bytes(4)
    data = image.getvalue()
    (tmp_path / 'a.jpg').write_bytes(data[:2] + b'\xff\xe1' + struct.pack('>H', len(exif) + 2) + exif + data[2:])
    assert read_image(tmp_path / 'a.jpg').shape == (1, 40, 30, 3)


# Cover art


def write_cover(path, with_video):
    with av.open(str(path), 'w') as container:
        cover = container.add_stream('mjpeg', rate=1)
        cover.width, cover.height, cover.pix_fmt = 600, 600, 'yuvj420p'
        cover.disposition = av.stream.Disposition.attached_pic.value  # below PyAV 17 a number
        sound = container.add_stream('aac', rate=44100, layout='mono')
        video = container.add_stream('mpeg4', rate=30) if with_video else None
        if video:
            video.width, video.height, video.pix_fmt = 64, 48, 'yuv420p'
        container.mux(cover.encode(av.VideoFrame.from_ndarray(np.full((600, 600, 3), 90, np.uint8), format='rgb24')))
        container.mux(cover.encode())
        for n in range(30):
            if video:
                image = np.full((48, 64, 3), 8 * n, np.uint8)
                container.mux(video.encode(av.VideoFrame.from_ndarray(image, format='rgb24')))
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format='fltp', layout='mono')
            frame.sample_rate, frame.pts = 44100, 1024 * n
            container.mux(sound.encode(frame))
        for stream in (video, sound):
            if stream:
                container.mux(stream.encode())
    return path


def test_cover_art_is_no_video(tmp_path):
    with pytest.raises(VideoError, match=r'a\.mp4: holds no video stream \(audio only, beside a cover picture\)'):
        probe(write_cover(tmp_path / 'a.mp4', with_video=False))


@pytest.mark.parametrize(
    'head, words',
    [
        (b'ID3\x04\0\0\0\0\x10\0APIC\0', r'MP3: audio only, beside a cover picture'),
        (b'fLaC\0\0\0\x22', 'FLAC: audio only'),
        (b'RIFF\x24\0\0\0WAVEfmt ', 'WAV: audio only'),
    ],
)
def test_a_file_of_sound_is_no_video(tmp_path, head, words):
    (tmp_path / 'a.mp3').write_bytes(head + bytes(4096))
    with pytest.raises(VideoError, match=rf'a\.mp3: holds no video stream \({words}\)$'):
        probe(tmp_path / 'a.mp3')


def test_a_video_behind_its_cover_is_read(tmp_path):
    path = write_cover(tmp_path / 'a.mp4', with_video=True)
    assert (probe(path).width, probe(path).height) == (64, 48)
    assert len(read_clip(path, sampling=Sampling(4, 28), start=0).frames.unique(dim=0)) == 4


# What stands beside results


def test_results_say_how_colors_were_read(tmp_path):
    import videozoo_timm
    from videozoo_timm.analysis import embed
    from videozoo_timm.analysis.feature_files import read_origin

    model = videozoo_timm.load_model('vit_shapes_motion')
    out = tmp_path / 'features.npz'
    embed(model, ['drawn:1@7'], out=out)
    origin = read_origin(out)
    settings = json.loads(origin['settings'])
    assert (settings['color'], settings['background'], origin['pyav']) == ('file', '#000000', pyav_version())
    with pytest.raises(ValueError, match='color was file, is published'):
        embed(model, ['drawn:1@7'], out=out, color='published')
    assert dataclasses.asdict(Reading(color='published').pixels) == dict(color='published', background='#000000')
