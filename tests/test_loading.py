"""Views are decoded ahead in processes of their own, in order, and one bad file costs itself alone."""

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import closing

import numpy as np
import psutil
import pytest
import torch
from conftest import CLIPS, REPOSITORY, hanging_video
from PIL import Image
from test_video import av, numbers, write_video

from videozoo_timm.video import (
    RECOGNITION,
    Failure,
    Job,
    Sampling,
    VideoError,
    View,
    Views,
    centered_starts,
    find_media,
    find_videos,
    load_views,
    prepare_clip,
    read_clip,
    read_clips,
    read_image,
    read_views,
)

SMALL = dict(size=56, mean=(0.45,) * 3, std=(0.225,) * 3)
CAT = str(CLIPS / 'pans' / 'things' / 'cat.mp4')


@pytest.fixture(scope='module')
def long_video(tmp_path_factory):
    """250 frames at 30 a second, with B-frames and a key frame every 50."""
    return write_video(tmp_path_factory.mktemp('video') / 'long.mp4', 250, codec='libx264')


# Several clips of one file


@pytest.mark.parametrize('starts', [[0.0, 0.5, 1.0, 1.5], [0.0, 6.0], [-2.0, -0.5, 3.0, 8.0], [2.0, 2.0], [0.1, 7.9]])
def test_clips_read_together_are_those_read_apart(long_video, starts):
    for path in (long_video, CLIPS / 'odd' / 'variable_rate.mkv'):
        allowed = [start for start in starts if start < 4]
        together = list(read_clips(path, allowed, sampling=Sampling(8, 30)))
        assert [clip.start for clip in together] == allowed
        for start, clip in zip(allowed, together, strict=True):
            if start >= 0:
                alone = read_clip(path, start=start, sampling=Sampling(8, 30))
                assert torch.equal(clip.frames, alone.frames) and torch.equal(clip.times, alone.times)


def test_distant_windows_are_sought(tmp_path, monkeypatch):
    from videozoo_timm.video import passes

    path = write_video(tmp_path / 'a.mp4', 250, codec='libx264', fps=10)
    sought, plain = [], passes.seek
    monkeypatch.setattr(passes, 'seek', lambda *args: sought.append(args[2]) or plain(*args))
    near, far = read_clips(path, [0.0, 20.0], sampling=Sampling(4, 4))
    assert len(sought) == 1 and numbers(near) == [0, 0, 0, 1] and numbers(far)[0] == 200


def test_before_the_beginning_the_first_frame_is_shown(long_video):
    (clip,) = read_clips(long_video, [-1.0], sampling=Sampling(7, 61))
    assert numbers(clip) == [0, 0, 0, 0, 10, 20, 30] and clip.start == -1.0
    assert clip.duration == pytest.approx(250 / 30, abs=1e-3)


def test_skipped_windows_leave_the_others_as_they_were(tmp_path):
    # With periodic intra refresh there are no key frames to enter at: what is decoded depends on where decoding begins.
    path = tmp_path / 'refresh.mp4'
    with av.open(str(path), 'w') as container:
        options = {'x264-params': 'intra-refresh=1:keyint=60'}
        stream = container.add_stream('libx264', rate=30, options=options)
        stream.width, stream.height, stream.pix_fmt = 64, 64, 'yuv420p'
        rng = np.random.default_rng(0)
        for _ in range(300):
            frame = av.VideoFrame.from_ndarray(rng.integers(0, 256, (64, 64, 3), np.uint8), format='rgb24')
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    starts = [0.5 * k for k in range(18)]
    everything = list(read_clips(path, starts, sampling=Sampling(4, 30)))
    for skip in (1, 7, 17):
        rest = list(read_clips(path, starts, sampling=Sampling(4, 30), skip=skip))
        assert [clip.start for clip in rest] == starts[skip:]
        assert all(torch.equal(a.frames, b.frames) for a, b in zip(everything[skip:], rest, strict=True))


def test_long_courses_are_read_in_several_passes(tmp_path):
    path = write_video(tmp_path / 'a.mp4', 250, codec='libx264', fps=2)  # 125 s
    starts = [5.0 * k for k in range(24)]
    clips = list(read_clips(path, starts, sampling=Sampling(2, 31)))
    assert [numbers(clip)[0] for clip in clips] == [10 * k for k in range(24)]
    for skip in (1, 13, 20):
        rest = list(read_clips(path, starts, sampling=Sampling(2, 31), skip=skip))
        assert all(torch.equal(a.frames, b.frames) for a, b in zip(clips[skip:], rest, strict=True))


@pytest.mark.parametrize(
    'starts, words',
    [([1.0, 0.5], 'ascending'), ([float('nan')], 'ascending'), ([0.0, 99.0], 'start 99 s is not before the end')],
)
def test_starts_that_cannot_be(long_video, starts, words):
    with pytest.raises(ValueError, match=words):
        list(read_clips(long_video, starts))


def test_clips_are_spread_from_end_to_end_as_published():
    assert centered_starts(10.0, RECOGNITION) == [(300 - 128) // 2 / 30]
    assert centered_starts(10.0, RECOGNITION, 3) == [0, 86 / 30, 172 / 30]
    assert centered_starts(10.0, RECOGNITION, 4) == [k * (172 // 3) / 30 for k in range(4)]
    assert centered_starts(1.0, RECOGNITION, 3) == [0, 0, 0]


# Views


def test_time_courses(long_video):
    starts = {}
    for align, share in (('start', 0), ('center', 0.5), ('causal', 1)):
        views = Views(**SMALL, sampling=Sampling(4, 30), stride=2.0, align=align)
        loaded = list(read_views(Job(0, str(long_video)), views))
        assert [view.time for view in loaded] == pytest.approx([0, 2, 4, 6, 8])
        assert all(view.end - view.start == pytest.approx(1.0) for view in loaded)
        assert all(view.time == pytest.approx(view.start + share) for view in loaded)
        assert all(view.total == 5 and view.duration == pytest.approx(250 / 30, abs=1e-3) for view in loaded)
        starts[align] = [view.start for view in loaded]
    assert starts['causal'][0] == -1 and starts['start'][0] == 0


def test_causal_windows_see_nothing_later(long_video):
    views = Views(**SMALL, sampling=Sampling(30, 30), stride=1.0, align='causal')
    for view, clip in zip(
        read_views(Job(0, str(long_video)), views),
        read_clips(long_video, views.starts, sampling=views.sampling),
        strict=True,
    ):
        assert clip.times.max() <= view.time


def test_views_can_be_skipped_one_by_one():
    views = Views(**SMALL, num_clips=3, crops=(0, 1, 2), short_side=56)
    everything = list(read_views(Job(0, CAT), views))
    assert len(everything) == 9
    for skip in (0, 1, 3, 5, 9):
        rest = list(read_views(Job(0, CAT, skip), views))
        assert len(rest) == 9 - skip
        assert all(torch.equal(a.x, b.x) and a[1:] == b[1:] for a, b in zip(everything[skip:], rest, strict=True))


def test_random_views_are_those_of_their_seed_and_file(long_video, tmp_path):
    other = tmp_path / f'other{long_video.suffix}'
    other.symlink_to(long_video)

    def draw(path, seed, index=3):
        (view,) = read_views(Job(index, str(path)), Views(**SMALL, jitter=(64, 80), seed=seed))
        return view

    first, again = draw(long_video, 1), draw(long_video, 1, index=4)
    other_file, other_seed = draw(other, 1), draw(long_video, 2)
    assert torch.equal(first.x, again.x)
    assert not torch.equal(first.x, other_file.x) and not torch.equal(first.x, other_seed.x)
    assert first.start != other_file.start and 0 <= first.start <= first.duration - RECOGNITION.seconds


def test_images_are_views_of_one_frame(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (90, 60, 3), np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    Image.fromarray(pixels).save(tmp_path / 'a.png', exif=exif)
    frames = read_image(tmp_path / 'a.png')
    assert torch.equal(frames[0], torch.from_numpy(np.rot90(pixels, -1).copy()))
    (view,) = read_views(Job(0, str(tmp_path / 'a.png')), Views(**SMALL))
    torch.testing.assert_close(view.x, prepare_clip(frames, 56, mean=0.45, std=0.225)[:, 0])
    (tmp_path / 'b.jpg').write_bytes(b'no image')
    with pytest.raises(VideoError, match='b.jpg: not an image'):
        read_image(tmp_path / 'b.jpg')
    with pytest.raises(FileNotFoundError, match='c.jpg'):
        read_image(tmp_path / 'c.jpg')


def test_of_a_folder_without_videos_the_images_are_taken(tmp_path):
    for name in ('videos/a.mp4', 'videos/thumbnail.jpg', 'images/b.PNG', 'images/c.jpeg', 'images/.d.jpg', 'notes.txt'):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert [p.name for p in find_media([tmp_path / 'videos', tmp_path / 'images'])] == ['a.mp4', 'b.PNG', 'c.jpeg']
    assert [p.name for p in find_media(tmp_path)] == ['a.mp4']
    assert [p.name for p in find_videos(tmp_path / 'images')] == []
    (tmp_path / 'links').mkdir()
    (tmp_path / 'links' / 'down').symlink_to(tmp_path / 'videos')
    (tmp_path / 'links' / 'up').symlink_to(tmp_path / 'links')
    assert [p.name for p in find_videos(tmp_path / 'links')] == ['a.mp4']


@pytest.mark.parametrize(
    'change, words',
    [
        (dict(num_clips=0), 'num_clips'),
        (dict(stride=0.0), 'stride'),
        (dict(align='end'), 'align'),
        (dict(jitter=(40, 80)), 'at least 56'),
        (dict(jitter=(90, 80)), 'ascending'),
    ],
)
def test_views_that_cannot_be(change, words):
    with pytest.raises(ValueError, match=words):
        Views(**SMALL, **change)


# Workers


def load(paths, views=None, **options):
    return list(load_views([Job(i, str(path)) for i, path in enumerate(paths)], views or Views(**SMALL), **options))


def test_workers_give_the_same_views_in_the_same_order():
    paths = find_videos(CLIPS)
    views = Views(**SMALL, num_clips=2)
    here, ahead = load(paths, views), load(paths, views, num_workers=3)
    assert [job for job, _ in here] == [job for job, _ in ahead]
    assert [job.index for job, item in here if not isinstance(item, View)] == list(range(16))
    for (_, ours), (_, theirs) in zip(here, ahead, strict=True):
        if isinstance(ours, View):
            assert torch.equal(ours.x, theirs.x) and ours[1:] == theirs[1:]  # to the bit
        else:
            assert ours == theirs
    assert sum(isinstance(item, Failure) for _, item in ahead) == 4


def test_a_file_that_hangs_the_decoder_costs_that_file_only(tmp_path):
    hanging_video(tmp_path / 'hangs.mp4')
    begin = time.monotonic()
    loaded = load([CAT, tmp_path / 'hangs.mp4', CAT, CAT], num_workers=2, time_limit=6)
    assert time.monotonic() - begin < 120
    assert [job.index for job, item in loaded if isinstance(item, View)] == [0, 2, 3]
    (failure,) = [item for _, item in loaded if isinstance(item, Failure)]
    assert 'hangs.mp4: gave nothing for 6 s' in failure.reason


def test_a_worker_that_dies_is_replaced(tmp_path):
    hanging_video(tmp_path / 'waits.mp4')

    def kill_the_worker():
        time.sleep(0.5)
        for process in psutil.Process().children():
            if any('import decode' in word for word in process.cmdline()):
                process.kill()

    loaded = load_views(
        [Job(i, p) for i, p in enumerate([CAT, str(tmp_path / 'waits.mp4'), CAT])], Views(**SMALL), num_workers=1
    )
    with closing(loaded):
        assert [type(next(loaded)[1]) for _ in range(2)] == [View, type(None)]
        threading.Thread(target=kill_the_worker).start()
        _, failure = next(loaded)
        assert 'waits.mp4: the decoder crashed (exit code -9)' in failure.reason
        assert isinstance(next(loaded)[1], View)


CHILD = """
from videozoo_timm.video import Job, Views, load_views
jobs = [Job(0, {path!r}), Job(1, 'waits.mp4'), Job(2, 'waits.mp4')]
loaded = load_views(jobs, Views(56, (0.45,), (0.225,)), num_workers=2)
next(loaded)
{then}
"""


@pytest.mark.parametrize('then', ['loaded.close()', 'import os; os.kill(os.getpid(), 9)', 'raise SystemExit'])
def test_no_worker_outlives_its_parent(tmp_path, then):
    hanging_video(tmp_path / 'waits.mp4')  # they are in the middle of it
    (tmp_path / 'script.py').write_text(CHILD.format(path=CAT, then=then))
    process = subprocess.Popen(
        [sys.executable, 'script.py'],
        cwd=tmp_path,
        env=dict(os.environ, PYTHONPATH=str(REPOSITORY), VIDEOZOO_NO_MODELS='1'),  # sooner
        start_new_session=True,
    )
    process.wait(timeout=300)
    for _ in range(300):
        time.sleep(0.2)
        left = subprocess.run(['pgrep', '-s', str(process.pid)], capture_output=True, text=True).stdout
        if not left:
            break
    assert not left


def test_stopping_while_workers_start():
    for seconds in (0.0, 0.005, 0.02, 0.1):
        loaded = load_views([Job(i, CAT) for i in range(4)], Views(**SMALL), num_workers=4)
        timer = threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGINT))
        with pytest.raises(KeyboardInterrupt):
            timer.start()
            list(loaded)
        timer.join()
        end = time.monotonic() + 10  # one that was about to start sees that it is not wanted
        while any('decoder' in thread.name for thread in threading.enumerate()):
            assert time.monotonic() < end
            time.sleep(0.05)


def test_workers_that_cannot_be():
    with pytest.raises(ValueError, match='num_workers=-1'):
        load([CAT], num_workers=-1)
