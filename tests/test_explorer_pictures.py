"""The explorer's pictures on their way to the player, and what all visitors see at first."""

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_explorer import ASKED, MAE, VIT

from videozoo_timm.explorer import answers as answers_module
from videozoo_timm.explorer.answers import Answers, Asked
from videozoo_timm.explorer.choices import FIRST, Models, Video, given_videos, offered_models
from videozoo_timm.explorer.film import Sheets
from videozoo_timm.explorer.serving import Explorer, serving
from videozoo_timm.explorer.session import Session


def frames_of(seed, size=8):
    return np.random.default_rng(seed).integers(0, 256, (3, size, size, 3), np.uint8)


def test_pictures_are_given_by_names_that_nobody_can_guess():
    """The same picture has the same name, of one server; each pixel arrives."""
    sheets, other = Sheets(), Sheets()
    one = sheets.put(frames_of(0))
    assert one == sheets.put(frames_of(0)) != sheets.put(frames_of(1)) and one['src'] != other.put(frames_of(0))['src']
    assert (one['n'], one['w'], one['h']) == (3, 8, 8) and one['src'].startswith('film/')
    for level in (0, 1):
        with Image.open(io.BytesIO(sheets.png(one['src'], level))) as image:
            assert np.array_equal(image, frames_of(0).reshape(24, 8, 3))
    assert other.png(one['src']) is None


def test_memory_of_pictures_is_bounded():
    sheets = Sheets(most=100 * 3 * 8 * 8 * 3)
    first, *_, last = [sheets.put(frames_of(seed))['src'] for seed in range(101)]
    assert sheets.png(first) is None and sheets.png(last)
    large = Sheets(most=1)
    names = [large.put(frames_of(seed))['src'] for seed in range(17)]
    assert all(map(large.png, names))  # all heads of an answer, however large


@pytest.fixture(scope='module')
def page():
    pytest.importorskip('gradio')
    with serving(Explorer()) as server:
        yield server.config.app


def test_pictures_and_files_of_the_page_are_answered(page):
    """As Gradio would, only sooner; to others than this machine compressed."""
    from fastapi.testclient import TestClient

    frames = np.repeat(frames_of(2)[:, :1], 8, axis=1)
    sheet = page.page.sheets.put(frames)
    with TestClient(page, base_url='http://127.0.0.1', client=('127.0.0.1', 1)) as near:
        answer = near.get(f'/{sheet["src"]}')
        assert answer.headers['content-type'] == 'image/png' and 'immutable' in answer.headers['cache-control']
        with Image.open(io.BytesIO(answer.content)) as image:
            assert np.array_equal(image, frames.reshape(24, 8, 3))
        for name in ('none', '../../etc/passwd', '..%2F..%2Fetc%2Fpasswd', ''):
            assert near.get(f'/film/{name}').status_code == 404
        files = [path for path in page.assets if path.endswith(('.js', '.css'))][:2]
        ours = [near.get(path) for path in files]
        assert len(files) == 2 and all('content-security-policy' in answer.headers for answer in ours)
    with TestClient(page, base_url='http://127.0.0.1', client=('192.0.2.1', 1)) as far:
        assert len(far.get(f'/{sheet["src"]}').content) < len(answer.content)  # compressed
        for path, given in zip(files, ours, strict=True):
            theirs = far.get(path)
            assert given.content == theirs.content
            assert given.headers['content-type'].split(';')[0] == theirs.headers['content-type'].split(';')[0]


def test_what_all_see_at_first_is_computed_once(tmp_path, monkeypatch):
    given, answers = given_videos(()), Answers(Models(offered_models()))
    answers.prepare(Session(tmp_path / 'first' / 'files', given), [MAE])
    loaded = {MAE: answers.models.get(MAE)}
    session, asked = Session(tmp_path / 'a' / 'files', given), Asked(FIRST, 1.17, MAE)
    with monkeypatch.context() as patch:
        patch.setattr(answers_module, 'filled_in', None)  # which would be asked
        assert answers.show(session, replace(asked, box='4,12'), loaded) == [] and session.shown[0].box
        (note,) = answers.show(session, replace(asked, mask='random'), loaded)
        assert 'not callable' in note
        session.box = (0, 16, 0, 56, 0, 56)
        assert answers.show(session, asked, loaded) != []
        session.box = None
        own = tmp_path / 'a' / 'own.mp4'
        session.uploads[FIRST] = Video(FIRST, str(own), 'own.mp4')  # of this name, but another
        assert answers.show(session, asked, loaded) != []
    other = Session(tmp_path / 'b' / 'files', given)
    monkeypatch.setattr('videozoo_timm.inference.clips.read_clip', None)  # what was read is shared
    other.box = (0, 16, 0, 56, 0, 56)
    assert answers.show(other, asked, loaded) == [] and other.shown[0].box == other.box


@pytest.mark.parametrize('names', [[MAE, VIT], ['vit_hvm1_none']])
def test_what_cannot_be_prepared_waits_for_visitors(tmp_path, names):
    """A model that is not on this machine, or lacks the view."""
    answers = Answers(Models(offered_models()))
    answers.prepare(Session(tmp_path / 'first' / 'files', given_videos(())), names)
    session = Session(tmp_path / 'a' / 'files', given_videos(()))
    loaded = {name: answers.models.get(name) for name in names if name != 'vit_hvm1_none'}
    notes = answers.show(session, replace(ASKED, second=names[-1]), loaded)
    assert len(notes) == len(session.shown) == len(loaded) // 2


def test_a_broken_video_is_no_reason_not_to_start(tmp_path):
    path = Path(tmp_path / 'broken.mp4')
    path.write_bytes(b'0' * 100)
    answers = Answers(Models(offered_models()))
    answers.prepare(Session(tmp_path / 'first' / 'files', given_videos((str(path),))), [MAE])
