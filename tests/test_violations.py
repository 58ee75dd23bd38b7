"""Drawn violations: pairs of videos that are the same up to a moment."""

import pytest
import torch

from videozoo_timm.cli import main
from videozoo_timm.synthetic import RATE, VIOLATIONS, event_time, make_violation, scene_of
from videozoo_timm.video import class_folders, find_media, probe, read_clip

TIMES = torch.arange(0, 135, 3) / RATE
FILMS = ('possible', 'impossible')


def difference(seed, number, violation, times=TIMES, size=48):
    """Of the two films of a pair, the largest difference of each frame, 0 to 255."""
    films = [make_violation(seed, number, violation, film == 'possible').render(times, size) for film in FILMS]
    return (films[0].int() - films[1].int()).abs().amax(dim=(1, 2, 3))


@pytest.mark.parametrize('violation', VIOLATIONS)
def test_films_of_a_pair_share_every_pixel_until_the_event(violation):
    for number in range(12):
        event = event_time(3, number)
        differ = difference(3, number, violation) > 0
        before, after = differ[TIMES < event - 1e-4], differ[TIMES >= event - 1e-4]
        assert not before.any() and len(before) > 10
        if violation.endswith('-hidden'):
            assert not after[0] and after[-1]  # what has happened behind the screen shows later
        else:
            frames = round(event * RATE) + torch.tensor([-1, 0, 1])
            assert difference(3, number, violation, frames / RATE, 128).gt(0).tolist() == [False, True, True]


def test_what_happens_is_what_the_name_says():
    """Told by the middle of the pixels that another video of the number, in which nothing is, does not have."""
    for number in range(8):
        times = torch.tensor([event_time(5, number) - 0.4, event_time(5, number) + 0.4])
        empty = make_violation(5, number, 'appear', possible=True).render(times, 96).int()

        def seen(violation, possible=False, empty=empty, times=times, number=number):
            frames = make_violation(5, number, violation, possible).render(times, 96).int()
            masks = (frames - empty).abs().amax(dim=3) > 12
            return [m.nonzero().float().mean(dim=0) / 96 if m.any() else None for m in masks], masks, frames

        (before, after), shape, colors = seen('vanish', possible=True)
        assert (after - before).norm() == pytest.approx(0.15, abs=0.03)  # it goes on
        assert seen('vanish')[0][1] is None and torch.equal(seen('vanish')[0][0], before)
        assert seen('appear')[0][0] is None and torch.equal(seen('appear')[0][1], after)
        assert (seen('teleport')[0][1] - after).norm() > 0.3
        other = seen('shape')[1]
        assert torch.equal(other[0], shape[0]) and not torch.equal(other[1], shape[1])
        both = seen('color')[1][1] & shape[1]
        assert both.sum() > 0.8 * shape[1].sum()
        assert (seen('color')[2][1] - colors[1])[both].abs().float().mean() > 20
        turned, passed = seen('wall', possible=True)[2][1], seen('wall')[2][1]
        assert (turned - passed).abs().amax(dim=2).gt(12).sum() > shape[1].sum() / 2


def test_violations_are_read_as_videos_are():
    paths = find_media(['drawn-violations:2@7', 'drawn-violations:1@7:vanish'])
    assert len(paths) == 4 * len(VIOLATIONS)
    assert [str(path) for path in paths[:3]] == [
        'drawn-violations:7/vanish/000000/possible',
        'drawn-violations:7/vanish/000000/impossible',
        'drawn-violations:7/vanish/000001/possible',
    ]
    assert probe(paths[0]).duration == 4.5 and read_clip(paths[1]).frames.shape == (16, 128, 128, 3)
    assert torch.equal(scene_of(paths[1]).render(TIMES), make_violation(7, 0, 'vanish', False).render(TIMES))
    folders = class_folders('drawn-violations:2@7:teleport-hidden')
    assert folders.classes == ['impossible', 'possible'] and folders.targets == [1, 0, 1, 0]
    for wrong in ('drawn-violations:', 'drawn-violations:0', 'drawn-violations:5@7:explode', 'drawn-violations:99999'):
        with pytest.raises(ValueError, match='drawn-violations:100@7:vanish'):
            find_media(wrong)
    with pytest.raises(ValueError, match="no violation 'explode'"):
        read_clip('drawn-violations:7/explode/000001/possible')


def test_files_of_a_pair_are_equal_to_the_bit_until_the_event(tmp_path, capsys):
    assert main(['draw', '--out', str(tmp_path), '--violations', '-n', '1', '--seed', '3', '--size', '32']) == 0
    assert f'{2 * len(VIOLATIONS)} videos in {len(VIOLATIONS)} folders' in capsys.readouterr().out
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(VIOLATIONS)
    files = [tmp_path / 'vanish' / '3_000000' / f'{film}.mp4' for film in FILMS]
    event = event_time(3, 0)
    first, second = (read_clip(file, start=event - 3 / RATE).frames[:1] for file in files)
    assert torch.equal(first, second)
    first, second = (read_clip(file, start=event).frames[:1] for file in files)
    assert (first.int() - second.int()).abs().max() > 50
    assert main(['draw', '--out', str(tmp_path / 'x'), '--violations', '--motion', 'left']) == 2
    assert '--motion exclude each other' in capsys.readouterr().err
