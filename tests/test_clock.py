"""Times and lengths are those of the pictures, whatever holds them, and what is not there is said."""

import math
from fractions import Fraction

import numpy as np
import pytest
import timm
import torch
from conftest import CLIPS
from test_video import av, decode_all, numbers, write_video

from videozoo_timm.analysis.embedding import embed
from videozoo_timm.cli import main
from videozoo_timm.inference.journal import Journal
from videozoo_timm.video import Sampling, VideoError, Views, clock, decoding, probe, read_clip, read_clips

CONTINUOUS = Sampling(16, 16)
CUT = r'cut off: its header says 4\.0 s, its pictures end after 2\.\d s'


def write_with_sound(path, codec, sound, late=0.0, seconds=20):
    """60 frames at 30 a second, as `write_video` numbers them, that begin `late` seconds after longer sound."""
    rate = 48000 if sound == 'libopus' else 44100
    with av.open(str(path), 'w') as container:
        video = container.add_stream(codec, rate=30, options={'threads': '1', 'b': '2M'})
        video.width, video.height, video.pix_fmt = 64, 64, 'yuv420p'
        audio = container.add_stream(sound, rate=rate, layout='mono')
        audio.bit_rate, pictures = 96_000, []
        for n in range(60):
            image = np.repeat(255 * np.repeat(np.unpackbits(np.uint8(n)), 8)[:, None, None], 64, axis=1)
            frame = av.VideoFrame.from_ndarray(np.broadcast_to(image, (64, 64, 3)).astype(np.uint8), format='rgb24')
            frame.pts, frame.time_base = round(n + 30 * late), Fraction(1, 30)
            pictures += video.encode(frame)
        container.mux(pictures + video.encode())
        size = audio.codec_context.frame_size or 1024
        kind = 's16' if sound == 'mp2' else 'fltp'
        for n in range(seconds * rate // size):
            silence = np.zeros((1, size), np.int16 if kind == 's16' else np.float32)
            frame = av.AudioFrame.from_ndarray(silence, format=kind, layout='mono')
            frame.sample_rate, frame.pts, frame.time_base = rate, n * size, Fraction(1, rate)
            container.mux(audio.encode(frame))
        container.mux(audio.encode())
    return path


def copied(path, name):
    """The pictures of a file in another container, as programs copy them that know their decoding times alone."""
    with av.open(str(path)) as source, av.open(str(path.with_name(name)), 'w') as target:
        stream = source.streams.video[0]
        copy = target.add_stream_from_template(stream)
        for packet in source.demux(stream):
            if packet.size:
                packet.stream, packet.pts = copy, packet.dts
                target.mux(packet)
    return path.with_name(name)


def cut_off(path, fraction):
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * fraction)])
    return path


@pytest.fixture(scope='module')
def cut(tmp_path_factory):
    """A video of 4 s, of which two thirds or so arrived."""
    path = tmp_path_factory.mktemp('cut') / 'cut.mp4'
    return cut_off(write_video(path, 120, codec='mpeg4', movflags='faststart'), 0.7)


# Lengths


@pytest.mark.parametrize('late', [0.0, 3.0], ids=['', 'late'])
@pytest.mark.parametrize(
    'name, codec, sound',
    [
        ('a.mp4', 'mpeg4', 'aac'),
        ('a.mkv', 'mpeg4', 'aac'),
        ('a.webm', 'libvpx', 'libopus'),
        ('a.flv', 'flv', 'aac'),
        ('a.wmv', 'wmv2', 'wmav2'),
        ('a.ogv', 'libvpx', 'libopus'),
        ('a.mpg', 'mpeg2video', 'mp2'),
        ('a.ts', 'mpeg2video', 'mp2'),
        ('a.nut', 'mpeg4', 'mp2'),
    ],
)
def test_the_length_is_that_of_the_pictures(tmp_path, name, codec, sound, late):
    path = write_with_sound(tmp_path / name, codec, sound, late)
    info = probe(path)
    assert info.duration == pytest.approx(2, abs=0.05) and info.lost == 0
    clip = read_clip(path, sampling=CONTINUOUS, start=1)
    assert numbers(clip) == list(range(30, 46)) and clip.padded == clip.damaged == clip.lost == 0
    assert clip.clock_offset == info.clock_offset == pytest.approx(late, abs=1.5)  # of codecs and muxers
    (behind,) = read_clips(path, [1.9], sampling=CONTINUOUS)
    assert behind.padded == pytest.approx(13 / 16, abs=1 / 16)


def test_what_an_edit_list_cuts_off_is_no_part_of_the_video(tmp_path):
    path = write_video(tmp_path / 'a.mp4', 100, codec='libx264')
    data = bytearray(path.read_bytes())
    place = data.index(b'elst') + 12  # of the length of the first edit, in milliseconds
    assert int.from_bytes(data[place : place + 4], 'big') == pytest.approx(3333, abs=1)
    data[place : place + 4] = (800).to_bytes(4, 'big')  # as phones trim a recording
    path.write_bytes(data)
    assert len(decode_all(path)[0]) == 24 and probe(path).duration == pytest.approx(0.8, abs=0.01)
    clip = read_clip(path, sampling=CONTINUOUS)
    assert numbers(clip) == list(range(4, 20)) and clip.padded == clip.damaged == clip.lost == 0
    clip = read_clip(path, sampling=CONTINUOUS, start=20 / 30)
    assert numbers(clip) == [20, 21, 22, *[23] * 13] and (clip.padded, clip.damaged) == (12 / 16, 0)


def test_frames_that_the_decoder_still_holds_keep_their_times_where_the_file_cannot_be_read_on(tmp_path):
    path = write_video(tmp_path / 'a.mp4', 30, codec='libx264')

    def packets(container, broken):
        for k, packet in enumerate(container.demux(video=0)):
            if k == 10:  # of which several frames are to come
                yield None
                return
            if k == broken:
                other = av.Packet(bytes(packet.size))
                other.pts, other.dts, other.time_base = packet.pts, packet.dts, packet.time_base
                packet = other
            yield packet

    for broken in (None, 8):
        with decoding.opened(path, 1) as (container, stream):
            damage = clock.Damage()
            frames = decoding.timed_frames(container, stream, packets=packets(container, broken), damage=damage)
            times = [(time, frame.time) for time, frame in frames]
        assert all(time == of_file for time, of_file in times) and len(times) > 7


def test_the_offset_is_the_first_frame_s_place_on_the_clock_of_the_file(tmp_path):
    for name, first_pts in (('a.mkv', 45), ('a.mp4', 45), ('a.mkv', 0)):
        path = write_video(tmp_path / name, 30, codec='mpeg4', first_pts=first_pts)
        with av.open(str(path)) as container:
            first = next(container.decode(video=0)).time
        clip = read_clip(path, sampling=CONTINUOUS, start=0.2)
        assert clip.clock_offset == probe(path).clock_offset == pytest.approx(first) == pytest.approx(first_pts / 30)
        assert clip.times[0] == pytest.approx(0.2)


# Order


@pytest.mark.parametrize('codec', ['libx264', 'mpeg4'])
def test_frames_without_presentation_times_come_each_once(tmp_path, codec):
    path = tmp_path / 'b.avi'
    with av.open(str(path), 'w') as container:
        stream = container.add_stream(codec, rate=30, options={'bf': '3', 'g': '60', 'b': '2M', 'threads': '1'})
        stream.width, stream.height, stream.pix_fmt = 64, 64, 'yuv420p'
        plain = write_video(tmp_path / 'plain.mkv', 140)
        for n, image in enumerate(decode_all(plain)[1]):
            frame = av.VideoFrame.from_ndarray(image, format='rgb24')
            frame.pts = n
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    for file in (path, copied(path, 'b.mp4'), copied(path, 'b.mkv')):
        assert min(np.diff(decode_all(file)[0])) < 0 or file == path, 'nothing to mend'
        assert probe(file).duration == pytest.approx(140 / 30, abs=0.04)
        for start in (0, 90):  # from the beginning, and after a seek
            clip = read_clip(file, sampling=CONTINUOUS, start=start / 30)
            assert numbers(clip) == list(range(start, start + 16)), file
            assert clip.times.tolist() == pytest.approx([(start + k) / 30 for k in range(16)], abs=0.002)


def test_times_ascend_whatever_a_file_says():
    def guarded(times):
        return [time for time, _ in clock.ascending(((time, None) for time in times), 1)]

    assert guarded([0, 3, 1, 2, 6, 7]) == [0, 3, 4, 5, 6, 7]
    assert guarded([0, 0, 2, 2, 4, 4]) == [0, 1, 2, 3, 4, 5]
    assert guarded([5, 6, 0, 1, 2]) == [5, 6, 7, 8, 9]
    shuffled = ((time, name) for time, name in zip([1, 4, 3, 5, 2, 8], 'abcdef', strict=True))
    assert list(clock.ordered(shuffled, 4)) == list(zip([1, 2, 3, 4, 5, 8], 'abcdef', strict=True))


def test_sound_files_are_decoded_no_further_than_they_are_shown(tmp_path, monkeypatch):
    path = write_video(tmp_path / 'a.mkv', 100, codec='libvpx')
    frames, count = decoding._frames, []
    monkeypatch.setattr(decoding, '_frames', lambda *args: (count.append(f) or f for f in frames(*args)))
    read_clip(path, sampling=Sampling(2, 2), start=0)
    assert len(count) == 1 + 3  # the first one, and one beyond the window


# Clocks that start again


@pytest.mark.parametrize(
    'name, codec, ahead',
    [
        ('a.ts', 'libx264', 0),
        ('a.ts', 'mpeg2video', 50_000),
        ('a.mpg', 'mpeg2video', 0),
        ('a.mkv', 'libx264', 0),
    ],
)
@pytest.mark.parametrize('order', ['ab', 'ba'])
def test_joined_recordings_are_read_whole(tmp_path, name, codec, ahead, order):
    parts = dict(
        a=write_video(tmp_path / f'one_{name}', 60, codec=codec).read_bytes(),
        b=write_video(tmp_path / f'two_{name}', 75, codec=codec, first_pts=30 * ahead).read_bytes(),
    )
    path = tmp_path / name
    path.write_bytes(b''.join(parts[part] for part in order))
    first = dict(a=60, b=75)[order[0]]
    assert probe(path).duration == pytest.approx(135 / 30, abs=0.04)
    shown = [*range(first), *range(135 - first)]
    starts = [0, 1, first / 30 - 0.2, 3.5]
    clips = list(read_clips(path, starts, sampling=Sampling(8, 8)))
    for clip in clips:
        assert numbers(clip) == [shown[round(30 * clip.start) + k] for k in range(8)]
    assert len(list(read_clips(path, lambda duration: np.arange(0, duration, 0.5), sampling=Sampling(1, 1)))) == 9
    (last,) = read_clips(path, starts, sampling=Sampling(8, 8), skip=3)
    assert torch.equal(last.frames, clips[-1].frames) and torch.equal(last.times, clips[-1].times)
    late = read_clip(path, start=4, sampling=Sampling(8, 8))  # sought by itself
    assert numbers(late) == [shown[120 + k] for k in range(8)]


def test_a_program_stream_is_read_by_its_own_times(tmp_path):
    # Few of its packets have times. After a seek FFmpeg guesses those of the next ones, half a frame wrong.
    path = write_with_sound(tmp_path / 'a.mpg', 'mpeg2video', 'mp2', seconds=2)
    for start in (0, 30, 40):
        assert numbers(read_clip(path, sampling=Sampling(8, 8), start=start / 30)) == [start + k for k in range(8)]


@pytest.mark.parametrize('codec', ['mpeg4', 'mpeg2video', 'libx264'])
def test_decoding_begins_with_a_key_frame_wherever_seeking_leads(tmp_path, codec):
    path = write_video(tmp_path / 'a.ts', 130, codec=codec)
    for start in range(0, 128, 9):
        clip = read_clip(path, sampling=Sampling(2, 2), start=start / 30)
        assert numbers(clip) == [start, start + 1] and clip.damaged == 0


# What is not there


def test_padding_is_counted(tmp_path):
    path = write_video(tmp_path / 'a.mkv', 60)
    for start, padded in ((0, 0), (-4 / 30, 4), (44 / 30, 0), (50 / 30, 6), (59 / 30, 15), (-15 / 30, 15)):
        (clip,) = read_clips(path, [start], sampling=CONTINUOUS)
        assert (clip.padded, clip.damaged, clip.lost) == (padded / 16, 0, 0)
    assert [clip.padded for clip in read_clips('drawn:3/left/000000', [-0.1, 0], sampling=Sampling(6, 6))] == [0.5, 0]
    assert read_clip(CLIPS / 'odd' / 'five_frames.mp4').padded == 15 / 16


def test_of_a_cut_file_what_is_there_is_the_video(cut, tmp_path):
    for path in (cut, cut_off(write_video(tmp_path / 'a.mkv', 120, codec='mpeg4'), 0.7)):
        info, there = probe(path), len(decode_all(path)[0]) / 30
        assert info.duration == pytest.approx(4, abs=0.05) and info.lost == pytest.approx(4 - there, abs=0.05)
        clip = read_clip(path, sampling=CONTINUOUS)
        assert clip.duration == pytest.approx(there, abs=0.05) and clip.lost == pytest.approx(info.lost)
        assert clip.padded == 0 and clip.start == pytest.approx((there - 16 / 30) / 2, abs=0.05)
        assert numbers(clip) == [round(30 * clip.start) + k for k in range(16)]
        (behind,) = read_clips(path, [there - 0.2], sampling=CONTINUOUS)
        assert behind.padded == pytest.approx(10 / 16, abs=1.01 / 16)
        with pytest.raises(VideoError, match='the window starts at 3.8 s: cut off'):
            read_clip(path, start=3.8)


def test_frames_that_do_not_decode_are_counted(tmp_path):
    path = write_video(tmp_path / 'a.mov', 60, codec='png')
    data = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        broken = list(container.demux(video=0))[30]
        place = data.find(bytes(broken))
    data[place : place + broken.size] = bytes(broken.size)
    path.write_bytes(data)
    for start, damaged in ((28, 1), (31, 0), (10, 0), (30, 1)):
        for num_threads in (1, 2):
            clip = read_clip(path, sampling=Sampling(4, 4), start=start / 30, num_threads=num_threads)
            assert clip.damaged == damaged / 4, (start, num_threads)


def zeroed(path, data, place):
    """The file with zeros instead of one of its packets."""
    copy = bytearray(data)
    with av.open(str(path)) as container:
        broken = sorted((p for p in container.demux(video=0) if p.size), key=lambda packet: packet.pts)[place]
        content, start = bytes(broken), data.index(bytes(broken), broken.pos)
    copy[start : start + len(content)] = bytes(len(content))
    path.write_bytes(copy)


def test_a_lost_frame_is_counted_where_its_time_is_rounded_up(tmp_path):
    path = write_video(tmp_path / 'a.mkv', 60, codec='mjpeg')
    data = path.read_bytes()
    for place in (30, 31, 32):  # 1.0, 1.033 and 1.067 s
        path.write_bytes(data)
        zeroed(path, data, place)
        assert read_clip(path, sampling=Sampling(8, 8), start=28 / 30).damaged == 1 / 8


@pytest.mark.parametrize('codec', ['libx264', 'mpeg4'])
def test_what_is_predicted_from_a_lost_frame_is_damaged_too(tmp_path, codec):
    path = write_video(tmp_path / 'a.mkv', 64, codec=codec)
    sound = read_clip(path, sampling=Sampling(64, 64), start=0)
    with av.open(str(path)) as container:
        keys = sorted(packet.pts for packet in container.demux(video=0) if packet.is_keyframe)
    keys = [round(30 * key / 1000) for key in keys]
    data, begins = path.read_bytes(), []
    for lost in range(keys[1] + 1, keys[2], 3):
        path.write_bytes(data)
        zeroed(path, data, lost)
        clip = read_clip(path, sampling=Sampling(64, 64), start=0)
        differ = [k for k in range(64) if not torch.equal(sound.frames[k], clip.frames[k])]
        begin = keys[2] - round(64 * clip.damaged)
        assert keys[1] < begin <= min(differ) and max(differ) < keys[2]
        for k in (keys[1], lost, keys[2] - 1, keys[2]):
            one = read_clip(path, sampling=Sampling(1, 1), start=k / 30)
            assert one.damaged == (lost <= k < keys[2])
        begins.append(lost - begin)
    assert (max(begins) > 0) == (codec == 'libx264')  # B-frames are shown before what they are predicted from


def test_pictures_that_the_decoder_calls_damaged_are_counted():
    assert read_clip(CLIPS / 'odd' / 'bit_rot.mkv').damaged > 0
    assert read_clip(CLIPS / 'pans' / 'things' / 'motorcycle.mkv').damaged == 0


# Time courses


@pytest.mark.parametrize(
    'align, offset, times',
    [
        ('start', 0, [0, 2, 4, 6, 8]),
        ('start', 1, [1, 3, 5, 7, 9]),
        ('causal', 0, [0, 2, 4, 6, 8, 10]),
        ('causal', 2, [2, 4, 6, 8, 10]),
        ('center', 1, [1, 3, 5, 7, 9]),
        ('center', 0, [0, 2, 4, 6, 8, 10]),
    ],
)
@pytest.mark.parametrize('span', [128, 1])
def test_the_last_row_of_a_time_course_is_there(align, offset, times, span):
    sampling = Sampling(1, span)
    views = Views(32, (0.5,), (0.5,), sampling=sampling, stride=2.0, align=align, offset=offset)
    for duration in (10, 9.99, *([10.005] if align != 'start' else [])):  # headers round
        starts = list(views.starts(duration))
        before = dict(start=0, center=0.5, causal=1)[align] * sampling.seconds
        assert np.allclose(np.add(starts, before), times)


def test_an_offset_must_be_one():
    for offset in (-1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match=f'offset={offset}: must be 0 or more'):
            Views(32, (0.5,), (0.5,), stride=1.0, offset=offset)
    with pytest.raises(ValueError, match='offset=1.0: .* of a time course'):
        Views(32, (0.5,), (0.5,), offset=1.0)
    with pytest.raises(ValueError, match='offset=5: the video ends before, it lasts 4 s'):
        Views(32, (0.5,), (0.5,), stride=1.0, offset=5).starts(4)


# Features


@pytest.fixture(scope='module')
def vit():
    torch.manual_seed(0)
    return timm.create_model('vit_t14_st', img_size=56, num_frames=2, num_classes=0).eval()


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
    """A video of 4 s that begins 1.5 s after its file's clock."""
    return write_video(tmp_path_factory.mktemp('whole') / 'whole.mkv', 120, codec='mpeg4', first_pts=45)


COURSE = dict(stride=0.5, align='causal', sampling=Sampling(2, 30))


def test_rows_say_what_is_not_theirs(vit, cut, whole, caplog):
    rows = embed(vit, [cut, whole], **COURSE)
    assert CUT.replace('\\', '')[:8] in caplog.text and len(caplog.records) == 1
    assert [path for path, _ in rows.lost] == [str(cut)] and 'lost=1' in repr(rows)
    of_whole = rows.video_index == 1
    assert rows.time[of_whole].tolist() == [0.5 * k for k in range(9)]
    assert rows.padded[of_whole].tolist() == [1, 0.5, *[0] * 7] and not rows.damaged.any()
    assert np.allclose(rows.clock_offset, np.where(of_whole, 1.5, 0))
    assert rows.time[~of_whole].max() <= rows.duration[~of_whole].max() + 0.02 < 3
    strict = embed(vit, [cut, whole], **COURSE, strict=True, lose=lambda *_: None)
    assert torch.equal(strict.features, rows.features[rows.padded == 0]) and strict.failed == []
    by_file = embed(vit, [cut, whole], **COURSE, clock='file', lose=lambda *_: None)
    assert torch.equal(by_file.features, rows.features)
    for name in ('time', 'start', 'end'):
        assert torch.equal(getattr(by_file, name), getattr(rows, name) + rows.clock_offset)
    with pytest.raises(ValueError, match="clock='wall': must be one of"):
        embed(vit, [whole], clock='wall')


def test_a_file_of_which_nothing_is_left_is_reported(vit, whole, tmp_path):
    short, told = write_video(tmp_path / 'short.mkv', 10), []
    rows = embed(vit, [short, whole], sampling=Sampling(2, 30), strict=True, report=lambda *words: told.append(words))
    assert rows.paths == [str(whole)] and rows.failed == told
    assert told[0][0] == str(short) and 'left out' in told[0][1]


def test_what_strict_leaves_out_is_not_computed_again(vit, whole, tmp_path):
    short, said = write_video(tmp_path / 'short.mkv', 10), []
    call = dict(sampling=Sampling(2, 30), out=tmp_path / 'f.npz', say=said.append, report=lambda *_: None)
    with pytest.raises(VideoError, match='left out'):
        embed(vit, [short], strict=True, **call)
    assert len(embed(vit, [short], **call).features) == 1 and 'going on with the unfinished run' in said[0]
    assert list(tmp_path.glob('.*.unfinished')) == []


def test_a_run_that_goes_on_says_what_the_whole_run_says(vit, cut, whole, tmp_path, monkeypatch):
    plain = embed(vit, [cut, whole], **COURSE, out=tmp_path / 'plain.npz', lose=lambda *_: None)
    add, count = Journal.add, []

    def killed(self, batch):
        if len(count) == 2:
            raise KeyboardInterrupt
        count.append(batch)
        add(self, batch)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Journal, 'add', killed)
        embed(vit, [cut, whole], **COURSE, out=tmp_path / 'again.npz')
    told = []
    again = embed(vit, [cut, whole], **COURSE, out=tmp_path / 'again.npz', lose=lambda *words: told.append(words))
    assert again.lost == plain.lost == told
    with np.load(tmp_path / 'again.npz') as one, np.load(tmp_path / 'plain.npz') as other:
        assert all(np.array_equal(one[name], other[name]) for name in other.files)
        assert {'padded', 'damaged', 'clock_offset'} < set(one.files)
    with pytest.raises(ValueError, match='clock was first-frame, is file'):
        embed(vit, [cut, whole], **COURSE, clock='file', out=tmp_path / 'again.npz')


@pytest.fixture
def videozoo(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)

    def run(*args):
        code = main([*map(str, args), '--num-workers', '0', '--span', '16'])
        return code, capsys.readouterr().err

    return run


@pytest.mark.parametrize(
    'command',
    ['embed', 'classify', 'complete', 'attend', 'pca'],
)
def test_commands_say_what_is_lost_in_their_exit_code(videozoo, cut, command):
    small = ['--num-frames', 2] if command != 'classify' else []
    code, said = videozoo(command, cut, *small)
    assert code == 1 and 'cut.mp4: cut off: its header says 4.0 s' in said
    assert '1 of 1 file lacks a part' in said


def test_measures_of_cut_files_say_so(videozoo, cut, tmp_path):
    for name in ('a', 'b'):
        for folder in ('train', 'val'):
            for k in range(2):
                (tmp_path / folder / name).mkdir(parents=True, exist_ok=True)
                source = cut if (folder, name, k) == ('val', 'a', 0) else CLIPS / 'odd' / 'five_frames.mp4'
                (tmp_path / folder / name / f'{k}{source.suffix}').write_bytes(source.read_bytes())
    code, said = videozoo('probe', '--train', 'train', '--val', 'val', '--probes', 'neighbours', '--num-frames', 2)
    assert code == 1 and f'{cut.parent.name}' not in said and 'cut off: its header says 4.0 s' in said
