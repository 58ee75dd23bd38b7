"""Videos are read by time, odd files are survived or refused in words, and clips are prepared as published."""

import dataclasses
import math
import runpy
import shutil
import struct
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import videozoo_timm.video
from videozoo_timm.video import (
    COMPLETION,
    RECOGNITION,
    Clip,
    Sampling,
    VideoError,
    decoding,
    denormalize,
    find_videos,
    passes,
    prepare_clip,
    probe,
    read_clip,
)

av = pytest.importorskip('av')

HERE = Path(__file__).parent
CLIPS, ODD, PANS = HERE / 'clips', HERE / 'clips' / 'odd', HERE / 'clips' / 'pans'
UNREADABLE = {
    'truncated.mp4': 'truncated',
    'empty.mp4': 'empty',
    'not_a_video.mp4': 'not a video',
    'audio_only.mp4': 'audio only',
}
READABLE = sorted(path for path in CLIPS.rglob('*.*') if path.name not in UNREADABLE)
BLOCK = 8  # pixels


def write_video(path, num_frames, fps=30, codec='ffv1', first_pts=0, size=(64, 64), **container_options):
    """Writes a video whose frame n shows n in binary, as eight black or white bars: no codec blurs them."""
    width, height = size
    with av.open(str(path), 'w', options=container_options) as container:
        stream = container.add_stream(codec, rate=fps, options={'threads': '1'})
        stream.width, stream.height = width, height
        stream.pix_fmt = {'ffv1': 'bgr0', 'png': 'rgb24', 'mjpeg': 'yuvj420p'}.get(codec, 'yuv420p')
        stream.codec_context.gop_size = 50
        if codec == 'libx264':
            stream.codec_context.max_b_frames = 2
        for n in range(num_frames):
            bits = np.unpackbits(np.uint8(n))  # [8], highest first
            image = np.zeros((height, width, 3), np.uint8)
            image[: 8 * BLOCK] = 255 * np.repeat(bits, BLOCK)[:, None, None]
            frame = av.VideoFrame.from_ndarray(image, format='rgb24').reformat(format=stream.pix_fmt)
            frame.pts, frame.time_base = n + first_pts, Fraction(1, fps)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def numbers(clip):
    """The frame numbers that `write_video` wrote into the frames of a clip."""
    rows = clip.frames[:, BLOCK // 2 : 8 * BLOCK : BLOCK, 8, 0].numpy()  # [T, 8]
    return np.packbits(rows > 127, axis=1)[:, 0].tolist()


def decode_all(path):
    """Every frame of a video as (seconds from the first, RGB), in the plainest way there is."""
    with av.open(str(path)) as container:
        frames = [
            (float(f.pts * f.time_base), f.to_ndarray(format='rgb24', interpolation='BICUBIC'))
            for f in container.decode(video=0)
        ]
    return [time - frames[0][0] for time, _ in frames], [image for _, image in frames]


def plain_choice(times, start, positions):
    return [max(i for i, time in enumerate(times) if time <= start + k / 30 + 0.002) for k in positions]


@pytest.fixture(scope='module')
def long_video(tmp_path_factory):
    """200 frames at 30 a second, with B-frames and a key frame only every 50."""
    return write_video(tmp_path_factory.mktemp('video') / 'long.mp4', 200, codec='libx264')


# Sampling


def test_positions_are_the_published_ones():
    assert RECOGNITION.positions == np.floor(np.linspace(0, 127, 16)).astype(int).tolist()
    assert COMPLETION.positions == np.floor(np.linspace(0, 64, 16)).astype(int).tolist()
    assert RECOGNITION.seconds == 128 / 30 and COMPLETION.seconds == 65 / 30


def test_positions_for_another_number_of_frames_span_the_same_time():
    assert dataclasses.replace(RECOGNITION, num_frames=4).positions == [0, 42, 84, 127]
    assert dataclasses.replace(COMPLETION, num_frames=5).positions == [0, 16, 32, 48, 64]
    assert dataclasses.replace(RECOGNITION, num_frames=1).positions == [0]
    assert dataclasses.replace(RECOGNITION, num_frames=128).positions == list(range(128))


@pytest.mark.parametrize('num_frames, span', [(0, 128), (16, 0)])
def test_sampling_nothing_is_refused(num_frames, span):
    with pytest.raises(ValueError, match='at least 1'):
        Sampling(num_frames, span)


# Which frames


@pytest.mark.parametrize('sampling, start', [(RECOGNITION, 36), (COMPLETION, 67)])
def test_default_window_is_centred(long_video, sampling, start):
    clip = read_clip(long_video, sampling=sampling)  # floor((200 - 128) / 2), floor((200 - 65) / 2)
    assert numbers(clip) == [start + k for k in sampling.positions]
    assert clip.start == start / 30
    assert clip.end == pytest.approx((start + sampling.span) / 30)
    assert clip.times.tolist() == pytest.approx([(start + k) / 30 for k in sampling.positions])


def test_clip_has_the_documented_types(long_video):
    clip = read_clip(long_video, sampling=Sampling(4, 128))
    assert isinstance(clip, Clip)
    assert clip.frames.dtype == torch.uint8 and clip.frames.shape == (4, 64, 64, 3) and clip.frames.is_contiguous()
    assert clip.times.dtype == torch.float64 and clip.times.shape == (4,)


@pytest.mark.parametrize('start', range(0, 200, 9))
def test_any_start_gives_exactly_the_frames_asked_for(long_video, start):
    clip = read_clip(long_video, sampling=Sampling(4, 10), start=start / 30)
    assert numbers(clip) == [min(start + k, 199) for k in (0, 3, 6, 9)]
    assert clip.start == start / 30


def test_matroska_times_in_whole_milliseconds_give_exact_frames(tmp_path):
    path = write_video(tmp_path / 'a.mkv', 200)
    assert numbers(read_clip(path, sampling=Sampling(200, 200))) == list(range(200))


def test_other_frame_rates_are_sampled_by_time(tmp_path):
    slow = write_video(tmp_path / 'slow.mkv', 100, fps=25)
    fast = write_video(tmp_path / 'fast.mkv', 200, fps=60)
    assert numbers(read_clip(slow, sampling=Sampling(60, 60), start=0)) == [math.floor(k * 5 / 6) for k in range(60)]
    assert numbers(read_clip(fast, sampling=Sampling(60, 60), start=1)) == [60 + 2 * k for k in range(60)]
    assert read_clip(slow, sampling=COMPLETION).start == math.floor((100 / 25 * 30 - 65) / 2) / 30


@pytest.mark.parametrize('name', ['a.mkv', 'a.mp4', 'a.ts'])
def test_time_zero_is_the_first_frame(tmp_path, name):
    path = write_video(tmp_path / name, 100, codec='libx264', first_pts=300)
    assert probe(path).duration == pytest.approx(100 / 30, abs=0.002)
    assert numbers(read_clip(path, sampling=Sampling(4, 10), start=0)) == [0, 3, 6, 9]
    assert numbers(read_clip(path, sampling=Sampling(4, 10), start=2)) == [60, 63, 66, 69]
    assert numbers(read_clip(path, sampling=Sampling(4, 10))) == [45, 48, 51, 54]


@pytest.mark.parametrize('path', READABLE, ids=lambda path: path.name)
@pytest.mark.parametrize('part', [None, 0.0, 0.4])
def test_frames_are_those_of_a_plain_loop(path, part):
    duration = probe(path).duration
    start = None if part is None else part * duration
    clip = read_clip(path, start=start)
    times, images = decode_all(path)
    begin = math.floor(max(duration * 30 - 128, 0) / 2 + 0.05) / 30 if start is None else start
    chosen = plain_choice(times, begin, np.floor(np.linspace(0, 127, 16)))
    assert clip.start == pytest.approx(begin)
    assert clip.times.tolist() == pytest.approx([times[i] for i in chosen])
    if path.name != 'bit_rot.mkv':  # what a decoder makes of broken packets is its own business
        assert np.array_equal(clip.frames.numpy(), np.stack([images[i] for i in chosen]))


def test_short_videos_repeat_their_last_frame(tmp_path):
    clip = read_clip(write_video(tmp_path / 'short.mkv', 20))
    assert numbers(clip) == [0, 8, 16] + [19] * 13
    assert clip.times.tolist() == pytest.approx([0, 8 / 30, 16 / 30] + [19 / 30] * 13, abs=0.001)
    assert (clip.start, clip.end) == (0, 128 / 30)
    assert (read_clip(ODD / 'five_frames.mp4').times * 30).round().tolist() == [0] + [4] * 15
    assert len(read_clip(ODD / 'one_frame.mp4').frames.unique(dim=0)) == 1


# Odd files


@pytest.mark.parametrize(
    'name, size, duration, fps',
    [
        ('portrait.mp4', (180, 320), 2, 30),
        ('five_frames.mp4', (160, 120), 5 / 30, 30),
        ('one_frame.mp4', (160, 120), 1 / 30, 30),
        ('tiny_34x18.mp4', (34, 18), 40 / 30, 30),
        ('ten_bit.mp4', (320, 240), 1.5, 30),
        ('variable_rate.mkv', (240, 160), 4.031, 30),
        ('sixty_fps.mp4', (320, 240), 3, 60),
        ('bit_rot.mkv', (360, 240), 5, 30),
    ],
)
def test_odd_but_readable(name, size, duration, fps):
    info = probe(ODD / name)
    assert (info.width, info.height, info.fps) == (*size, fps)
    assert info.duration == pytest.approx(duration)
    frames = read_clip(ODD / name).frames
    assert frames.shape == (16, *size[::-1], 3) and frames.float().std() > 5


@pytest.mark.parametrize('name', UNREADABLE)
@pytest.mark.parametrize('read', [read_clip, probe])
def test_unreadable_files_are_named_with_the_reason(name, read):
    with pytest.raises(VideoError, match=f'{name}: .*{UNREADABLE[name]}'):
        read(ODD / name)


def test_missing_file():
    for read in (read_clip, probe):
        with pytest.raises(FileNotFoundError, match='nowhere.mp4'):
            read(ODD / 'nowhere.mp4')


def test_folder_is_no_video():
    with pytest.raises(VideoError, match='odd'):
        read_clip(ODD)


def test_unknown_codec(tmp_path):
    path = tmp_path / 'codec.mp4'
    path.write_bytes((ODD / 'portrait.mp4').read_bytes().replace(b'avc1', b'zzzz'))
    with pytest.raises(VideoError, match='codec.mp4: .*no decoder'):
        read_clip(path)


def test_file_cut_off_in_the_middle_repeats_what_can_be_decoded(tmp_path):
    path = tmp_path / 'cut.mkv'
    data = (PANS / 'things' / 'motorcycle.mkv').read_bytes()
    path.write_bytes(data[: len(data) // 2])
    times, images = decode_all(path)
    assert times[-1] < probe(path).duration / 2 + 1  # the header still says 5 s
    clip = read_clip(path)
    assert clip.times[-1] == pytest.approx(times[-1])
    assert np.array_equal(clip.frames[-1].numpy(), images[-1])
    with pytest.raises(VideoError, match=r'cut.mkv: the file ends at 2\.3 s, the window starts at 4\.5 s'):
        read_clip(path, start=4.5)


def test_file_cut_off_before_its_first_frame(tmp_path):
    path = tmp_path / 'cut.mkv'
    path.write_bytes((PANS / 'things' / 'motorcycle.mkv').read_bytes()[:1200])
    with pytest.raises(VideoError, match='cut.mkv: no frame could be decoded'):
        read_clip(path)


def test_broken_packets_are_passed_over(tmp_path):
    data = bytearray(write_video(tmp_path / 'whole.mov', 60, codec='png').read_bytes())
    with av.open(str(tmp_path / 'whole.mov')) as container:
        packet = list(container.demux(video=0))[30]
        place = data.find(bytes(packet))
    data[place : place + packet.size] = bytes(packet.size)
    path = tmp_path / 'broken.mov'
    path.write_bytes(data)
    assert numbers(read_clip(path, sampling=Sampling(4, 4), start=28 / 30)) == [28, 29, 29, 31]


def test_container_that_states_no_duration(tmp_path):
    path = write_video(tmp_path / 'live.mkv', 200, live='1')
    with av.open(str(path)) as container:
        assert container.duration is None and container.streams.video[0].duration is None
    assert probe(path).duration == pytest.approx(200 / 30, abs=0.002)
    assert numbers(read_clip(path)) == [36 + k for k in RECOGNITION.positions]


def test_raw_stream_without_times_or_index(tmp_path):
    path = write_video(tmp_path / 'raw.h264', 200, codec='libx264')
    with av.open(str(path)) as container:
        assert next(container.decode(video=0)).pts is None
    assert probe(path).duration == pytest.approx(200 / 30)
    assert numbers(read_clip(path)) == [36 + k for k in RECOGNITION.positions]
    assert numbers(read_clip(path, sampling=Sampling(2, 10), start=5)) == [150, 159]


def test_size_that_changes_on_the_way_is_brought_to_the_first(tmp_path):
    small, large = tmp_path / 'small.h264', tmp_path / 'large.h264'
    write_video(small, 20, codec='libx264')
    write_video(large, 20, codec='libx264', size=(128, 128))
    path = tmp_path / 'both.h264'
    path.write_bytes(small.read_bytes() + large.read_bytes())
    clip = read_clip(path, sampling=Sampling(4, 40), start=0)
    assert clip.frames.shape == (4, 64, 64, 3)
    assert numbers(dataclasses.replace(clip, frames=clip.frames[:2])) == [0, 13]
    assert not clip.frames[2, 32:].any()  # the larger picture, scaled: its lower half is black


@pytest.mark.parametrize(
    'matrix, turns',
    [
        ((0, 1, -1, 0), -1),  # a phone held upright: to be shown turned clockwise
        ((-1, 0, 0, -1), 2),
        ((0, -1, 1, 0), 1),
    ],
)
def test_rotation_metadata_is_honoured(tmp_path, matrix, turns):
    plain = ODD / 'portrait.mp4'
    data = bytearray(plain.read_bytes())
    place = data.find(b'tkhd') + 44  # the display matrix in the track header, 16.16 fixed point
    a, b, c, d = (65536 * value for value in matrix)
    data[place : place + 36] = struct.pack('>9i', a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path = tmp_path / 'rotated.mp4'
    path.write_bytes(data)
    clip = read_clip(path)
    assert torch.equal(clip.frames, torch.rot90(read_clip(plain).frames, turns, dims=(1, 2)))
    info = probe(path)
    assert (info.height, info.width) == tuple(clip.frames.shape[1:3])


def test_metadata_in_a_broken_encoding(tmp_path):
    path = tmp_path / 'latin.mp4'
    path.write_bytes((ODD / 'one_frame.mp4').read_bytes().replace(b'VideoHandler', b'Vid\xe9oHandler'))
    assert probe(path).width == 160


def test_frames_held_by_the_decoder_survive_a_reading_error(long_video):
    class Failing:
        def demux(self, stream):
            yield from (packet for packet, _ in zip(container.demux(stream), range(30), strict=False))
            raise av.FFmpegError(5, 'Input/output error')

    with av.open(str(long_video)) as container:
        assert len(list(decoding._frames(Failing(), container.streams.video[0]))) == 30


def test_frames_without_times_are_counted_from_the_beginning(long_video, monkeypatch):
    class Timeless:
        time = None

        def __init__(self, frame):
            self.frame = frame

        def __getattr__(self, name):
            return getattr(self.frame, name)

    frames = decoding._frames
    monkeypatch.setattr(decoding, '_frames', lambda *args: map(Timeless, frames(*args)))
    assert numbers(read_clip(long_video, sampling=Sampling(4, 10), start=5)) == [150, 153, 156, 159]


def test_name_that_looks_like_an_address(tmp_path, monkeypatch):
    shutil.copy(ODD / 'one_frame.mp4', tmp_path / 'a:b.mp4')
    monkeypatch.chdir(tmp_path)
    assert probe('a:b.mp4').width == 160


# Where to start


@pytest.mark.parametrize('start', [-0.1, math.nan, math.inf])
def test_start_that_is_no_time(start):
    with pytest.raises(ValueError, match=f'one_frame.mp4: start .*got {start}'):
        read_clip(ODD / 'one_frame.mp4', start=start)


@pytest.mark.parametrize('start', [2, 7.5])
def test_start_beyond_the_end_names_start_and_duration(start):
    with pytest.raises(ValueError, match=rf'portrait.mp4: start {start} s .* lasts 2 s'):
        read_clip(ODD / 'portrait.mp4', start=start)


def test_start_right_before_the_end():
    assert (read_clip(ODD / 'portrait.mp4', start=1.99).times * 30).round().tolist() == [59] * 16


def test_seek_that_lands_too_late_is_repaired(long_video, monkeypatch):
    monkeypatch.setattr(passes, '_SEEK_MARGINS', (-3.0, math.inf))
    assert numbers(read_clip(long_video, sampling=Sampling(4, 10), start=1)) == [30, 33, 36, 39]


def test_a_late_window_is_sought(long_video, monkeypatch):
    frames, count = decoding._frames, []
    monkeypatch.setattr(decoding, '_frames', lambda *args: (count.append(f) or f for f in frames(*args)))
    read_clip(long_video, sampling=Sampling(2, 2), start=180 / 30)
    assert len(count) < 60


# Manners


def test_containers_are_closed(monkeypatch):
    opened, plain_open = [], av.open
    monkeypatch.setattr(av, 'open', lambda *args, **kwargs: opened.append(plain_open(*args, **kwargs)) or opened[-1])
    read_clip(PANS / 'people' / 'astronaut.mp4')
    with pytest.raises(ValueError, match='not before the end'):
        read_clip(ODD / 'portrait.mp4', start=9)
    with pytest.raises(VideoError):
        read_clip(ODD / 'audio_only.mp4')
    assert len(opened) >= 3
    for container in opened:
        with pytest.raises(AssertionError, match='not open'):
            container.seek(0)


def test_import_needs_no_av_and_reading_is_silent():
    code = (
        'import sys, timm\n'
        'before = "av" in sys.modules\n'  # older torchvision imports it
        'import videozoo_timm.video as v\n'
        'assert ("av" in sys.modules) == before\n'
        f'v.read_clip({str(ODD / "bit_rot.mkv")!r})\n'
        f'try: v.read_clip({str(ODD / "truncated.mp4")!r})\n'
        'except v.VideoError: pass\n'
    )
    root = Path(videozoo_timm.video.__file__).parents[2]
    done = subprocess.run([sys.executable, '-c', code], cwd=root, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, '', '')


def test_ffmpeg_does_not_log_under_pythons_lock():
    level = av.logging.get_level()
    av.logging.set_level(av.logging.ERROR)  # as older torchvision does on import; decoding could then hang
    try:
        read_clip(ODD / 'one_frame.mp4')
        assert av.logging.get_level() is None
    finally:
        av.logging.set_level(level)


def test_missing_av_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, 'av', None)
    with pytest.raises(ImportError, match=r"pip install 'videozoo-timm\[video\]'"):
        read_clip(ODD / 'one_frame.mp4')


# Finding


def test_find_videos(tmp_path):
    names = ['b/2.MP4', 'b/1.webm', 'a.mkv', 'notes.txt', '.hidden.mp4', '.git/x.mp4', 'b/._1.webm', 'folder.mp4/c.avi']
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    sorted_names = ['a.mkv', 'b/1.webm', 'b/2.MP4', 'folder.mp4/c.avi']
    assert find_videos([tmp_path]) == [tmp_path / name for name in sorted_names]
    assert find_videos(str(tmp_path)) == find_videos([tmp_path])
    # Explicit files first and whatever they are called, nothing twice however it is spelled.
    explicit = [tmp_path / 'notes.txt', tmp_path / '.hidden.mp4', tmp_path / 'b' / '..' / 'a.mkv']
    assert find_videos([*explicit, tmp_path, tmp_path / 'b']) == explicit + [tmp_path / n for n in sorted_names[1:]]
    assert find_videos([tmp_path / '.git']) == [tmp_path / '.git' / 'x.mp4']
    assert find_videos([]) == []


def test_find_videos_in_the_samples():
    names = ['people/astronaut.mp4', 'things/cat.mp4', 'things/coffee.webm', 'things/motorcycle.mkv']
    assert find_videos(PANS) == [PANS / name for name in names]


def test_find_videos_names_what_is_missing():
    with pytest.raises(FileNotFoundError, match='nowhere'):
        find_videos([PANS, PANS / 'nowhere'])


# Preparing


@pytest.fixture(scope='module')
def pixels():
    return runpy.run_path(str(HERE / 'golden' / 'recipe.py'))['pixels']('preprocess', (4, 60, 90, 3))


VIDEO = {'mean': 0.45, 'std': 0.225}
IMAGENET = {'mean': (0.485, 0.456, 0.406), 'std': (0.229, 0.224, 0.225)}


@pytest.mark.parametrize('key, size', [('down_28', 28), ('up_56', 56)])
def test_preparing_matches_the_published_code(pixels, key, size):
    want = load_file(HERE / 'golden' / 'preprocess.safetensors')[key]
    clip = prepare_clip(pixels, size, **VIDEO)
    assert clip.dtype == torch.float32 and clip.shape == (3, 4, size, size)
    torch.testing.assert_close(clip, want, atol=1e-5, rtol=0)


@pytest.mark.parametrize('crop', [0, 1, 2])
def test_three_crops_match_the_published_code(pixels, crop):
    want = load_file(HERE / 'golden' / 'preprocess_three_crops.safetensors')[f'crop_{crop}']
    clip = prepare_clip(pixels, 28, short_side=28, crop=crop, **VIDEO)
    torch.testing.assert_close(clip, want, atol=1e-5, rtol=0)
    tall = prepare_clip(pixels.transpose(1, 2), 28, short_side=28, crop=crop, **VIDEO)  # top, center, bottom
    torch.testing.assert_close(tall.transpose(2, 3), want, atol=1e-5, rtol=0)


@pytest.mark.parametrize('crop, left', [('center', 17), (0, 0), (1, 17), (2, 33)])
def test_right_size_is_left_alone_and_an_odd_margin_cut_at_its_larger_half(pixels, crop, left):
    want = pixels.permute(3, 0, 1, 2)[:, :, 2:59, left : left + 57] / 255
    assert torch.equal(prepare_clip(pixels, 57, short_side=60, crop=crop, mean=0, std=1), want)
    tall = prepare_clip(pixels.transpose(1, 2), 57, short_side=60, crop=crop, mean=0, std=1)
    assert torch.equal(tall.transpose(2, 3), want)


@pytest.mark.parametrize('crop, top, left', [((0.0, 0.0), 0, 0), ((1.0, 1.0), 3, 33), ((0.5, 0.25), 2, 8)])
def test_a_crop_lies_where_it_is_asked_for(pixels, crop, top, left):
    clip = prepare_clip(pixels[:, :31, :61], 28, mean=0.0, std=1.0, short_side=31, crop=crop)
    want = torch.as_tensor(pixels)[:, top : top + 28, left : left + 28].permute(3, 0, 1, 2) / 255
    torch.testing.assert_close(clip, want)


def test_right_size_is_left_alone_where_rounding_would_shrink_it(pixels):
    frames = pixels[:, :23, :26]
    assert math.floor(26 / 23 * 23) == 25
    clip = prepare_clip(frames, 23, short_side=23, crop=2, mean=0, std=1)
    assert torch.equal(clip, frames.permute(3, 0, 1, 2)[..., 3:] / 255)


def test_arrays_and_channels_are_taken_as_they_come(pixels):
    clip = prepare_clip(pixels.numpy(), 60, short_side=60, crop=2, **IMAGENET)
    want = (pixels.numpy()[:, :, 30:] / 255 - IMAGENET['mean']) / IMAGENET['std']
    np.testing.assert_allclose(clip.permute(1, 2, 3, 0).numpy(), want, atol=1e-5)


def test_preparing_leaves_its_input_alone(pixels):
    before = pixels.clone()
    for short_side in (60, 40):
        prepare_clip(pixels, 40, short_side=short_side, **VIDEO)
    assert torch.equal(pixels, before)


@pytest.mark.parametrize('size', [24, 90])
def test_bicubic_stands_for_pil(size):
    image_module = pytest.importorskip('PIL.Image')
    frames = read_clip(PANS / 'things' / 'cat.mp4').frames[:1]
    image = image_module.fromarray(frames[0].numpy()).resize((size * 320 // 240, size), image_module.BICUBIC)
    want = torch.from_numpy(np.array(image)[:, :size]).permute(2, 0, 1).float()
    got = prepare_clip(frames, size, short_side=size, interpolation='bicubic', crop=0, mean=0, std=1)[:, 0] * 255
    assert (got - want).abs().max() < 1.01 and (got - want).abs().mean() < 0.01


def test_denormalize_undoes_the_normalization(pixels):
    for stats in (VIDEO, IMAGENET):
        clip = prepare_clip(pixels, 60, short_side=60, crop=0, **stats)
        want = pixels.permute(3, 0, 1, 2)[..., :60] / 255
        torch.testing.assert_close(denormalize(clip, **stats), want, atol=1e-6, rtol=0)
        torch.testing.assert_close(denormalize(clip[None], **stats)[0], want, atol=1e-6, rtol=0)
    clipped = denormalize(torch.tensor([-9.0, 0.0, 9.0]).view(1, 3, 1, 1), **VIDEO)
    assert clipped.flatten().tolist() == pytest.approx([0, 0.45, 1])


@pytest.mark.parametrize(
    'change, message',
    [
        (
            {'frames': torch.zeros(4, 60, 90, 3)},
            r'uint8 \[T, H, W, 3\] or .*, got float32 \[4, 60, 90, 3\]',
        ),
        ({'frames': torch.zeros(60, 90, 3, dtype=torch.uint8)}, r'got uint8 \[60, 90, 3\]'),
        ({'frames': torch.zeros(3, 4, 60, 90, dtype=torch.uint8)}, r'got uint8 \[3, 4, 60, 90\]'),
        ({'frames': torch.zeros(0, 60, 90, 3, dtype=torch.uint8)}, r'got uint8 \[0, 60, 90, 3\]'),
        ({'size': 29, 'short_side': 28}, '29 x 29 .* short side is 28'),
        ({'size': 0}, '0 x 0'),
        ({'interpolation': 'nearest'}, "'nearest'"),
        ({'crop': 3}, "crop must be 'center', 0, 1, 2 or two fractions from 0 to 1, got 3"),
        ({'mean': (0.1, 0.2)}, 'mean must be .* got 2'),
        ({'std': (0.1,) * 4}, 'std must be .* got 4'),
    ],
)
def test_bad_input_is_refused_in_words(pixels, change, message):
    with pytest.raises(ValueError, match=message):
        prepare_clip(**{'frames': pixels, 'size': 28, **VIDEO, **change})
