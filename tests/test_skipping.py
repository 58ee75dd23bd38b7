"""Frames that are left out undecoded change nothing: clips equal those of decoding every frame, to the bit."""

import math
import random
from contextlib import suppress
from fractions import Fraction
from itertools import islice
from types import SimpleNamespace

import av
import numpy as np
import pytest
import torch

from videozoo_timm.video import Sampling, VideoError, passes, read_clips, skipping
from videozoo_timm.video.clock import Damage
from videozoo_timm.video.decoding import opened
from videozoo_timm.video.extent import examine

FRAMES, RATE, SIZE = 120, 30, (96, 64)
SHORT = Sampling(8, 30)
B = 3  # FFmpeg's number of this type of picture
X264 = dict(preset='ultrafast', crf='30')
# Container, encoder, its options; whether the time between frames varies.
VIDEOS = {
    'no B-frames': ('mp4', 'libx264', {'bf': '0', 'g': '40', **X264}, False),
    'B-frames': ('mp4', 'libx264', {'bf': '3', 'g': '250', **X264}, False),
    'B-frames, varying rate': ('mkv', 'libx264', {'bf': '3', 'g': '60', **X264}, True),
    'B-pyramid': ('mp4', 'libx264', {'x264-params': 'bframes=6:b-pyramid=normal:b-adapt=0:keyint=50', **X264}, False),
    'open GOP': ('mkv', 'libx264', {'x264-params': 'bframes=3:open-gop=1:keyint=15:b-adapt=0', **X264}, False),
    'intra refresh': ('ts', 'libx264', {'x264-params': 'bframes=2:intra-refresh=1:keyint=20', **X264}, False),
    'transport stream': ('ts', 'libx264', {'bf': '2', 'g': '30', **X264}, False),
    'interlaced': ('ts', 'libx264', {'x264-params': 'tff=1:bframes=2:keyint=30', **X264}, False),
    'AVI': ('avi', 'libx264', {'bf': '2', 'g': '30', **X264}, False),
    'HEVC': ('mp4', 'libx265', {'preset': 'ultrafast', 'x265-params': 'bframes=3:keyint=30:log-level=none'}, False),
    'VP9': ('webm', 'libvpx-vp9', {'deadline': 'realtime', 'cpu-used': '8', 'g': '30'}, True),
    'AV1': ('mkv', 'libsvtav1', {'preset': '13', 'g': '30'}, False),
    'MPEG-4': ('mp4', 'mpeg4', {'bf': '2', 'g': '20'}, False),
    'MPEG-4 in AVI': ('avi', 'mpeg4', {'bf': '2', 'g': '20'}, False),
    'MPEG-2': ('ts', 'mpeg2video', {'bf': '2', 'g': '15'}, False),
    'MPEG-2 program stream': ('mpg', 'mpeg2video', {'bf': '2', 'g': '15'}, False),
    'MJPEG': ('avi', 'mjpeg', {}, False),
    'ProRes': ('mov', 'prores_ks', {}, False),
}
SKIPPED = {'B-frames', 'B-frames, varying rate', 'B-pyramid', 'open GOP', 'transport stream', 'MPEG-4', 'MPEG-2'}


@pytest.fixture(scope='module')
def videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp('videos')
    return {name: make_video(folder / f'{k}.{spec[0]}', *spec[1:]) for k, (name, spec) in enumerate(VIDEOS.items())}


def make_video(path, encoder, options, varying):
    """A texture that moves one way, then another, under a square that blinks; None if PyAV lacks the encoder."""
    if encoder not in av.codecs_available:
        return None
    rng = np.random.default_rng(0)
    texture = rng.integers(0, 256, (16, 16, 3), dtype=np.uint8).repeat(16, 0).repeat(16, 1)
    with av.open(str(path), 'w') as container:
        stream = container.add_stream(encoder, rate=RATE)
        (stream.width, stream.height), stream.options = SIZE, options
        stream.pix_fmt = {'mjpeg': 'yuvj420p', 'prores_ks': 'yuv422p10le'}.get(encoder, 'yuv420p')
        if varying:
            stream.codec_context.time_base = Fraction(1, 10 * RATE)
        time = 0
        for n in range(FRAMES):
            x, y = 3 * min(n, FRAMES - n), 2 * (n % 50)
            image = np.ascontiguousarray(texture[y : y + SIZE[1], x % 150 : x % 150 + SIZE[0]])
            image[:16, :16] = 255 * (n // 7 % 2)
            frame = av.VideoFrame.from_ndarray(image, format='rgb24')
            frame.pts, frame.time_base = time, Fraction(1, 10 * RATE)
            time += int(rng.integers(5, 40)) if varying else 10
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def damaged(path, how, rng):
    data = bytearray(path.read_bytes())
    if how == 'cut off':
        del data[int(rng.uniform(0.4, 0.95) * len(data)) :]
    else:
        for place in rng.sample(places(path), 6):
            data[place] ^= 1 << rng.randrange(8)
    other = path.with_name(f'{how} {path.name}')
    other.write_bytes(data)
    return other


def places(path):
    """Bytes of frames that others need. Damage to the rest stays where it is: it may be left out with its frame."""
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    with av.open(str(path)) as container:
        needed = {frame.pts for frame in container.decode(video=0) if int(frame.pict_type) != B}
    found = [packet.pos + k for packet in packets if packet.pts in needed and packet.pos for k in range(packet.size)]
    return found or range(1000, path.stat().st_size)


def outcome(path, starts, **options):
    try:
        return list(read_clips(path, starts, sampling=SHORT, **options))
    except (VideoError, ValueError) as error:
        return str(error)


def assert_equal(one, other):
    assert type(one) is type(other)
    if isinstance(one, str):
        assert one == other
        return
    for a, b in zip(one, other, strict=True):
        assert torch.equal(a.frames, b.frames) and torch.equal(a.times, b.times)
        assert (a.start, a.end, a.duration) == (b.start, b.end, b.duration)


def odd(*_, **__):
    raise skipping.Odd
    yield


@pytest.mark.parametrize('how', ['sound', 'cut off', 'flipped bits'])
@pytest.mark.parametrize('name', VIDEOS)
def test_random_windows_equal_those_of_decoding_all(name, how, videos, monkeypatch):
    path, rng = videos[name], random.Random(f'{name} {how}')
    if path is None:
        pytest.skip(f'PyAV was built without {VIDEOS[name][1]}')
    if how != 'sound':
        path = damaged(path, how, rng)
    several = sorted(rng.uniform(0, 2.9) for _ in range(3))
    windows = [*([rng.uniform(0, 3.4)] for _ in range(4)), several, lambda duration: [max(duration - 0.7, 0)]]
    # Two threads decode a damaged file differently from one time to the next.
    threads = rng.choice([1, 2]) if how == 'sound' else 1
    mine = [outcome(path, starts, num_threads=threads) for starts in windows]
    skipped = outcome(path, several, skip=1)
    monkeypatch.setattr(passes, 'shown_frames', odd)
    for clips, starts in zip(mine, windows, strict=True):
        assert_equal(clips, outcome(path, starts, num_threads=threads))
    if how == 'sound':
        assert_equal(skipped, mine[4][1:])


@pytest.mark.parametrize('name', sorted(SKIPPED))
def test_frames_are_left_out(name, videos):
    """Where files are sound and have frames that no other needs."""
    path = videos[name]
    with opened(path, 1) as (container, stream):
        every = list(islice((frame for packet in container.demux(stream) for frame in stream.decode(packet)), 60))
    wanted = [frame.time for frame in every[::9]]
    with opened(path, 1) as (container, stream):
        counted = SimpleNamespace(codec_context=stream.codec_context, time_base=stream.time_base, decoded=0)

        def decode(packet):
            frames = stream.decode(packet)
            counted.decoded += len(frames)
            return frames

        counted.decode, container_of = decode, SimpleNamespace(demux=lambda _: container.demux(stream))
        *frames, (end, nothing) = skipping.shown_frames(container_of, counted, wanted)
        assert [time for time, _ in frames] == wanted and (end, nothing) == (math.inf, None)
    assert counted.decoded < 0.8 * len(every)
    for (_, frame), expected in zip(frames, every[::9], strict=True):
        assert np.array_equal(frame.to_ndarray(), expected.to_ndarray())


@pytest.mark.parametrize('name', ['B-frames', 'MPEG-4', 'MPEG-2', 'HEVC', 'VP9', 'MJPEG'])
def test_clips_are_read_that_way_where_the_codec_allows_it(name, videos, monkeypatch):
    if videos[name] is None:
        pytest.skip(f'PyAV was built without {VIDEOS[name][1]}')
    ways = []
    for way in ('shown_frames', 'timed_frames'):
        plain = getattr(passes, way)
        monkeypatch.setattr(passes, way, lambda *a, way=way, plain=plain, **k: ways.append(way) or plain(*a, **k))
    list(read_clips(videos[name], [1.0], sampling=SHORT))
    assert ways == ['shown_frames' if name in SKIPPED else 'timed_frames']


@pytest.mark.parametrize(('name', 'number'), [('no B-frames', 1), ('B-frames', 1), ('MPEG-4', 1), ('MJPEG', 2)])
def test_a_file_is_opened_once_where_its_header_tells_all(name, number, videos, monkeypatch):
    """For one clip, for several in a pass, and for several passes; these show the same."""
    opened, plain = [], av.open
    monkeypatch.setattr(av, 'open', lambda *args, **kwargs: opened.append(args) or plain(*args, **kwargs))
    list(read_clips(videos[name], [1.0], sampling=SHORT))
    assert len(opened) == number
    opened.clear()
    together = list(read_clips(videos[name], [0.0, 0.7, 2.4], sampling=SHORT))
    assert len(opened) == number
    opened.clear()
    monkeypatch.setattr(passes, '_LONGEST_RUN', 0.0)
    assert_equal(list(read_clips(videos[name], [0.0, 0.7, 2.4], sampling=SHORT)), together)
    assert len(opened) == (1 if number == 1 else 4)


@pytest.mark.parametrize(('name', 'sent'), [('no B-frames', [*range(6), *range(80, 96)]), ('open GOP', [*range(98)])])
def test_what_no_shown_frame_needs_is_not_decoded_before_an_idr_picture(name, sent, videos):
    """A key frame of an open GOP is none: frames that follow it may need those before."""
    with opened(videos[name], 1) as (container, stream):
        order = [packet.pts for packet in container.demux(stream) if packet.size]
        wanted = [float(sorted(order)[k] * stream.time_base) for k in (0, 5, 90, 95)]
    with opened(videos[name], 1) as (container, stream):
        numbers = []
        counted = SimpleNamespace(codec_context=stream.codec_context, time_base=stream.time_base)

        def decode(packet):
            if packet is not None and packet.size:
                numbers.append(order.index(packet.pts))
            return stream.decode(packet)

        counted.decode = decode
        frames = skipping.shown_frames(SimpleNamespace(demux=lambda _: container.demux(stream)), counted, wanted)
        assert [time for time, _ in frames] == [*wanted, math.inf]
    assert numbers == sent


def test_frames_before_the_first_key_frame_are_the_first_ones(videos, tmp_path, monkeypatch):
    """As in a file that was cut within an open GOP, whose header tells all else."""
    path = tmp_path / 'cut.mp4'
    with av.open(str(videos['open GOP'])) as source, av.open(str(path), 'w') as target:
        copy = target.add_stream_from_template(source.streams.video[0])
        packets = [packet for packet in source.demux(video=0) if packet.size]
        second = [k for k, packet in enumerate(packets) if packet.is_keyframe][1]
        for packet in packets[second:]:
            packet.stream = copy
            target.mux(packet)
    with opened(path, 1) as (container, stream):
        damage = Damage()
        with suppress(VideoError):  # older FFmpeg decodes none of what a cut has left without its reference
            examine(path, container, stream, damage)
        assert damage.is_any  # so that it is opened again, as a file with a damaged beginning
    mine = outcome(path, [0.0, 1.0])
    monkeypatch.setattr(passes, 'has_index', lambda *_: False)
    monkeypatch.setattr(passes, 'shown_frames', odd)
    assert_equal(mine, outcome(path, [0.0, 1.0]))
