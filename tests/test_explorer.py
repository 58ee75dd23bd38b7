"""The explorer without a browser: views against calls and commands, sessions, paths, uploads, the page over HTTP."""

import os
import shlex
import shutil
import types
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import timm
import torch

from videozoo_timm.cli import main
from videozoo_timm.explorer import answers as answers_module
from videozoo_timm.explorer import guard as guard_module
from videozoo_timm.explorer import serving as serving_module
from videozoo_timm.explorer.answers import NONE, Answers, Asked
from videozoo_timm.explorer.choices import FIRST, Models, Video, chosen_first, drawn_video, given_videos, offered_models
from videozoo_timm.explorer.kept import Kept
from videozoo_timm.explorer.moments import surprising
from videozoo_timm.explorer.serving import Explorer, is_local, serving
from videozoo_timm.explorer.session import MAX_VISITORS, Session, Visitors
from videozoo_timm.explorer.views import Viewing, attention, filled_in, middle_box, similar
from videozoo_timm.video import IN_THIS_PROCESS

ODD = Path(__file__).parent / 'clips' / 'odd'
MAE, VIT = 'mae_shapes_none', 'vit_shapes_motion'
ASKED = Asked(FIRST, 1.17, MAE, NONE, 'box', 0.9, '', 0, False, 1.0, 0, 'mse', 8, 1, 0)


@pytest.fixture(scope='module')
def models():
    return Models(offered_models())


def clip(models, name=MAE, start=None, path=FIRST):
    return Viewing(Video(path, path, path), start, name, models.get(name))


VIEWS = {
    'box': lambda models: filled_in(clip(models)),
    'box at a start': lambda models: filled_in(clip(models, start=0.7), box=(0, 4, 14, 56, 28, 70)),
    'random': lambda models: filled_in(clip(models), 'random', 0.5),
    'temporal': lambda models: filled_in(clip(models), 'temporal', 0.5),
    'attention': lambda models: attention(clip(models, VIT), 2),
    'heads': lambda models: attention(clip(models, start=1.3), 1, True, 0.6),
    'similar': lambda models: similar(clip(models, VIT, 2.0), (3, 2, 5), 3),
    'surprise': lambda models: surprising(clip(models), 4),
}


@pytest.mark.parametrize('view', VIEWS)
def test_what_is_typed_gives_what_is_shown(models, view, tmp_path, monkeypatch):
    """The lines of Python and the command give the arrays of the view to the bit."""
    monkeypatch.chdir(tmp_path)
    shown = VIEWS[view](models)
    exec(shown.python, {})
    (written,) = tmp_path.glob('*.npz')
    assert_same(shown, written)
    written.unlink()
    for line in shown.command.splitlines():
        assert main([*shlex.split(line)[1:], '--num-workers', '0']) == 0
    (written,) = tmp_path.glob('*/*.npz')
    assert_same(shown, written, without=('colors',))


def assert_same(shown, path, without=()):
    with np.load(path) as found:
        for name, array in shown.arrays.items():
            if name not in without:
                assert np.array_equal(found[name], array, equal_nan=True), name
                assert found[name].dtype == array.dtype


def test_a_box_in_the_middle_is_filled_in(models):
    """What the first page shows: the four panels, of which the completion alone differs in the box."""
    shown = filled_in(clip(models))
    assert shown.box == middle_box((8, 8, 8), 16, 112) == (4, 12, 28, 84, 28, 84)
    original, masked, completed, error = (panel.frames for panel in shown.panels)
    assert [panel.label for panel in shown.panels][:3] == ['original', 'masked', 'completed']
    assert original.shape == error.shape == (16, 112, 112, 3)
    inside = np.zeros((16, 112, 112), bool)
    inside[4:12, 28:84, 28:84] = True
    assert (completed == original).all(axis=-1)[~inside].all() and (completed != original).any()
    assert len(np.unique(masked[inside])) == 1  # gray
    assert error[~inside].max() <= error[inside].max() and 'PSNR' in shown.told and '12%' in shown.told


def test_a_patch_is_most_like_itself(models):
    shown = similar(clip(models), (3, 2, 5))
    likeness = torch.from_numpy(shown.arrays['similarity'])
    assert likeness.shape == (8, 8, 8) and likeness.argmax() == 3 * 64 + 2 * 8 + 5
    assert likeness.max().item() == pytest.approx(1) and likeness.abs().max() <= 1 + 1e-6
    marked = shown.panels[0].frames
    assert (marked[6:8, 28, 70:84] == 255).all() and not (marked[8:, 28, 70:84] == 255).all()


def test_a_surprising_window_is_looked_at(models):
    trial = clip(models)
    shown = surprising(trial)
    curve = shown.curve
    assert len(curve.times) == len(curve.values) == 9 and curve.duration == 4.5
    assert curve.values[curve.chosen] == max(curve.values)
    assert surprising(trial, 2).curve.window == (pytest.approx(8 / 15), pytest.approx(8 / 15 + 64 / 30))


def test_a_view_that_a_model_lacks_is_said(models, tmp_path):
    """The other one of two models is shown all the same, at the same settings."""
    session, answers = Session(tmp_path / 'a' / 'files', given_videos(())), Answers(models)
    both = {name: models.get(name) for name in (MAE, VIT)}
    (note,) = answers.show(session, replace(ASKED, second=VIT), both)
    assert note.startswith(VIT) and 'no decoder' in note and [one.model for one in session.shown] == [MAE]
    session.view, session.block = 'look', 2
    assert answers.show(session, replace(ASKED, second=VIT), both) == []
    assert [one.model for one in session.shown] == [MAE, VIT] and '--block 2' in session.shown[1].command
    assert session.save('npz').suffix == '.zip'


def test_the_place_in_the_first_model_fits_the_second(models, tmp_path):
    """At its own size and number of frames."""
    small = timm.create_model('mae_t14_st', img_size=56, num_frames=8).eval()
    session, answers = Session(tmp_path / 'a' / 'files', given_videos(())), Answers(models)
    session.box = (4, 12, 28, 84, 0, 56)
    assert answers.show(session, ASKED, {MAE: models.get(MAE), 'small': small}) == []
    assert [one.box for one in session.shown] == [(4, 12, 28, 84, 0, 56), (2, 6, 14, 42, 0, 28)]
    session.view, session.patch = 'compare', (7, 5, 2)
    assert answers.show(session, ASKED, {MAE: models.get(MAE), 'small': small}) == []
    assert [one.patch for one in session.shown] == [(7, 5, 2), (3, 2, 1)]


@pytest.mark.parametrize('ending', ['png', 'svg', 'gif', 'npz'])
def test_what_is_shown_can_be_downloaded(models, tmp_path, ending):
    session = Session(tmp_path / 'a' / 'files', {})
    with pytest.raises(ValueError, match='Nothing is shown'):
        session.save(ending)
    session.shown = [filled_in(clip(models))]
    path = session.save(ending)
    assert path.name == f'completion_{MAE}.{ending}' and path.stat().st_size > 1000
    session.close()
    assert not session.folder.exists()


@pytest.mark.parametrize('name', ['../../etc/passwd', '/etc/passwd', '', 'tests/clips/pans', 'drawn:', 'drawn:4@7/x'])
def test_what_was_not_given_is_refused(tmp_path, name):
    session = Session(tmp_path / 'a' / 'files', given_videos(()))
    with pytest.raises((FileNotFoundError, ValueError)):
        session.video(name)


def test_videos_are_those_that_were_given(tmp_path, monkeypatch):
    assert next(iter(given_videos(()))) == FIRST
    assert [video.path for video in given_videos(('drawn:2@7',)).values()] == [
        'drawn:7/down/000000',
        'drawn:7/grow/000000',
    ]
    found = given_videos((str(ODD), 'drawn:1'))
    assert found['portrait.mp4'].typed == str(ODD / 'portrait.mp4') and 'drawn:0/down/000000' in found
    assert drawn_video(' drawn:7/left/000001 ').path == 'drawn:7/left/000001'
    with pytest.raises(FileNotFoundError, match='no such'):
        given_videos((str(tmp_path / 'none'),))
    with pytest.raises(ValueError, match='no videos or images'):
        given_videos((str(tmp_path),))


def test_uploads_are_of_one_visitor(tmp_path):
    """A file moves from where uploads arrive into the visitor's folder; anything else is no upload."""
    visitors = Visitors(tmp_path, {})
    one, other = visitors.get('one'), visitors.get('other')
    arrived = tmp_path / '0a1b' / 'portrait.mp4'
    arrived.parent.mkdir()
    arrived.write_bytes((ODD / 'portrait.mp4').read_bytes())
    video = one.upload(arrived)
    assert not arrived.exists() and video.label == video.typed == 'portrait.mp4'
    assert one.video('portrait.mp4').path.startswith(str(one.folder))
    with pytest.raises(FileNotFoundError):
        other.video('portrait.mp4')
    for path in ('/etc/passwd', video.path, tmp_path / '0a1b' / '..' / '..' / 'x.mp4', one.folder / 'y.mp4'):
        with pytest.raises(FileNotFoundError, match='no such upload'):
            other.upload(path)
    with pytest.raises(ValueError, match='neither a video nor an image'):
        (tmp_path / '0a1b' / 'a.txt').write_text('')
        one.upload(tmp_path / '0a1b' / 'a.txt')
    visitors.leave('one')
    assert not Path(video.path).exists() and len(visitors) == 1


def test_memory_of_visitors_is_bounded(tmp_path):
    visitors = Visitors(tmp_path, {})
    first = visitors.get('first')
    for number in range(MAX_VISITORS):
        visitors.get(str(number))
    assert len(visitors) == MAX_VISITORS and not first.folder.exists()
    kept, made = Kept(most=1000), []
    for key in (1, 2, 1, 3, 4, 1):
        kept.get(key, lambda key=key: made.append(key) or torch.zeros(100))  # 400 bytes
    assert made == [1, 2, 3, 4, 1] and kept.num_bytes <= 1000


def test_models_on_disk_come_first(monkeypatch):
    offered = offered_models()
    assert next(iter(offered)) == MAE and offered[MAE].label == f'{MAE} (MAE)'
    assert 'GB to download' in offered['vit_hvm1_none'].label
    here = [offer.is_here for offer in offered.values()]
    assert here == sorted(here, reverse=True)
    assert 'vit_kinetics_none' not in offered and 'vit_h14_st.kinetics_hvm1' in offered  # a name of two zoos
    assert next(iter(offered_models(['vit_t14_st.shapes_motion']))) == VIT
    assert list(offered_models([VIT], only_first=True)) == [VIT]
    assert chosen_first((), offered) == [MAE]
    assert chosen_first(('vit_t14_st.shapes_motion', VIT, MAE, 'vit_s_none'), offered) == [VIT, MAE]
    assert all(offer.is_packaged for offer in offered_models(only_first=True).values())
    with pytest.raises(ValueError, match='did you mean'):
        offered_models(['vit_hvm1_nonee'])
    with pytest.raises(ValueError, match='generators of videos'):
        offered_models(['say_gimel'])
    with pytest.raises(ValueError, match='not among the models'):
        Models(offered_models([VIT], only_first=True)).get(MAE)


def test_strangers_are_asked_for_a_password(monkeypatch, capsys):
    assert is_local('127.0.0.1') and is_local('::1') and is_local('localhost')
    assert not is_local('0.0.0.0') and not is_local('192.168.1.7') and not is_local('example.org')
    monkeypatch.delenv('VIDEOZOO_EXPLORE_PASSWORD', raising=False)
    monkeypatch.setattr('sys.stdin', types.SimpleNamespace(isatty=lambda: False))
    assert main(['explore', '--host', '0.0.0.0']) == 2
    assert 'VIDEOZOO_EXPLORE_PASSWORD' in capsys.readouterr().err


def test_two_explorers_start_at_once():
    """Each has a port, also while neither answers yet; one that was asked for is not changed."""
    with serving_module._listen(Explorer()) as one, serving_module._listen(Explorer()) as other:
        ports = [bound.getsockname()[1] for bound in (one, other)]
        assert ports[0] != ports[1]
        with pytest.raises(OSError, match='cannot be listened on'), serving_module._listen(Explorer(port=ports[1])):
            pass


@pytest.fixture(scope='module')
def page():
    """The page, whose handlers are called as Gradio calls them."""
    pytest.importorskip('gradio')
    with serving(Explorer()) as server:
        yield server.config.app


class Visit:
    """One visitor, who sets controls."""

    def __init__(self, page, name):
        self.page, self.request, self.asked = page, types.SimpleNamespace(session_hash=name), ASKED

    def do(self, handler, **event):
        given = [types.SimpleNamespace(_data=event)] if event else []
        answer = handler(self.request, *given, *vars(self.asked).values())
        return answer if isinstance(answer, dict) else list(answer)[-1]


def test_the_page_answers(page, models):
    """What it shows at first, a box that is dragged, a video that is broken, one that is no path of ours."""
    page = page.page
    visit, other = Visit(page, 'one'), Visit(page, 'other')
    first = visit.do(page._on_video)
    assert [panel['label'] for panel in first[page.film]['rows'][0]['panels']][:3] == [
        'original',
        'masked',
        'completed',
    ]
    assert first[page.film]['box'] == (4, 12, 28, 84, 28, 84) and first[page.code]['command'].startswith(
        'videozoo complete'
    )
    assert first[page.start].value == 1.17
    other.do(page._on_video)
    dragged = visit.do(page._on_film, box=[0, 16, 0, 28, 0, 28])
    assert '--mask-box 0,16,0,28,0,28' in dragged[page.code]['command']
    assert dragged[page.film]['rows'][0]['panels'][2] != first[page.film]['rows'][0]['panels'][2]
    assert visit.do(page._on_model) == {page.status: ''}  # a list of models that was opened and left alone
    assert '--mask-box 0,16,0,28,0,28' in visit.do(page._on_control)[page.code]['command']
    assert other.do(page._on_control)[page.code] == first[page.code]  # whose box did not move
    visit.asked = replace(ASKED, video='../../etc/passwd')
    refused = visit.do(page._on_video)[page.film]
    assert refused['rows'] == [] and 'no such video' in refused['notes'][0]
    visit.asked = replace(ASKED, box='0,16,0,280,0,28')
    assert 'must be ascending and within 0,112' in visit.do(page._on_box)[page.film]['notes'][0]
    visit.asked = replace(ASKED, box='four')
    assert 'six whole numbers' in visit.do(page._on_box)[page.status]
    page._on_leave(visit.request)


@pytest.mark.parametrize('name', sorted(os.listdir(ODD)))
def test_odd_uploads_give_a_view_or_a_message(page, name, monkeypatch):
    if name != 'not_a_video.mp4':  # one of them in a process of its own, as all are otherwise
        monkeypatch.setattr(answers_module, 'UPLOADS', IN_THIS_PROCESS)
    folder = page.folder / '0a1b'
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes((ODD / name).read_bytes())
    visit, page = Visit(page.page, name), page.page
    *_, last = page._on_upload(visit.request, str(folder / name), *vars(visit.asked).values())
    film = last[page.film]
    assert film['rows'] or film['notes'][0]
    assert str(folder.parent) not in str(film['notes']) and str(folder.parent) not in str(last.get(page.code))


def test_the_page_over_http(page):
    """It asks nobody else for anything, and gives no file of this machine away."""
    from fastapi.testclient import TestClient

    with TestClient(page, base_url='http://127.0.0.1') as client:
        answer = client.get('/')
        assert answer.status_code == 200 and "default-src 'self'" in answer.headers['content-security-policy']
        assert 'fonts.googleapis' not in answer.text
        for path in ('/etc/passwd', '../../etc/passwd', str(Path(__file__)), str(ODD / 'portrait.mp4')):
            assert client.get(f'/gradio_api/file={path}').status_code in (403, 404)
        big = {'files': ('a.mp4', b'0' * 1000)}
        assert client.post('/gradio_api/upload', files=big).status_code == 200


def test_an_earlier_question_is_not_answered_after_a_later_one(page, monkeypatch):
    """A model that loads for long keeps no other choice waiting, nor comes up once something else is shown."""
    page, visit = page.page, Visit(page, 'hasty')
    load = page.answers.load

    def slow(name, loaded):
        if name == VIT:
            yield 'Loading'
        yield from load(name, loaded)

    monkeypatch.setattr(page.answers, 'load', slow)
    earlier = page._on_model(visit.request, *vars(replace(ASKED, first=VIT)).values())
    assert next(earlier) == {page.status: 'Loading'}
    assert MAE in visit.do(page._on_model)[page.code]['command']
    assert not any(page.film in answer for answer in earlier)
    reading = page._on_video(visit.request, *vars(ASKED).values())
    monkeypatch.setattr(
        'videozoo_timm.explorer.page.place_in', lambda session, video: session.open(()) and (0.0, 1.0)
    )  # another one
    assert not any(page.video in answer for answer in reading)


FORGED = {
    'an upload': ('upload', 'upload', {}, '/etc/passwd'),
    'an upload above': ('upload', 'upload', {}, '../../etc/passwd'),
    "the page's own upload": ('upload', 'upload', {}, str(ODD / 'portrait.mp4')),
    'a video': ('video', 'input', dict(video='/etc/passwd'), None),
    'a video above': ('video', 'input', dict(video='../../etc/passwd'), None),
    'a video that is none': ('video', 'input', dict(video={'path': '/etc/passwd'}), None),
    'a model': ('model', 'input', dict(first='/etc/passwd'), None),
    'a second model': ('second', 'input', dict(second='../../etc/passwd'), None),
    'a mask': ('mask', 'input', dict(mask='/etc/passwd'), None),
    'a box': ('box', 'submit', dict(box='/etc/passwd'), None),
    'a score': ('score', 'input', dict(score='../../etc/passwd'), None),
}


REFUSALS = (
    'no such video',
    'six whole numbers',
    'it was not uploaded by a user',
    'is not in the list of choices',
    'not a valid',
)


@pytest.mark.parametrize('forged', FORGED)
def test_forged_events_are_refused(page, forged):
    """What no control of the page offers is answered with a message, and no file of this machine with its content."""
    from fastapi.testclient import TestClient

    control, event, values, file = FORGED[forged]
    before = set(page.folder.rglob('*'))  # with what earlier visitors have uploaded
    with TestClient(page, base_url='http://127.0.0.1') as client:
        config = client.get('/config').json()
        (number,) = [one['id'] for one in config['components'] if one['props'].get('elem_id') == control]
        (asked,) = [one['id'] for one in config['dependencies'] if [number, event] in one['targets']]
        data = [{'path': file, 'meta': {'_type': 'gradio.FileData'}}] * (file is not None)
        told = dict(
            data=[*data, *vars(replace(ASKED, start=0.0, **values)).values()], fn_index=asked, session_hash=forged
        )
        assert client.post('/gradio_api/queue/join', json=told).status_code == 200
        answer = client.get('/gradio_api/queue/data', params=dict(session_hash=forged)).text
    assert any(text in answer for text in REFUSALS), answer[:5000]
    assert 'root:' not in answer and 'film/' not in answer
    new = set(page.folder.rglob('*')) - before
    assert not [path for path in new if path.name in ('passwd', 'portrait.mp4')]


@pytest.mark.parametrize('event', [dict(box='../../etc'), dict(box=['/etc/passwd'] * 6), dict(window='/etc/passwd')])
def test_forged_places_are_passed_over(page, event):
    visit = Visit(page.page, 'forged')
    shown = visit.do(page.page._on_film, **event)
    assert shown[page.page.film]['box'] == (4, 12, 28, 84, 28, 84)


def test_uploads_and_visitors_end(monkeypatch, tmp_path):
    """A file above the limit is refused, all of them together too; the folder goes with the server or the next one."""
    from fastapi.testclient import TestClient

    monkeypatch.setattr('tempfile.tempdir', str(tmp_path))
    with serving(Explorer()) as server:
        killed = server.config.app.folder
        name = killed.name.replace(f'.{os.getpid()}.', f'.{2**22 + 1}.')  # no process has such a number
        shutil.copytree(killed, tmp_path / name)
        (tmp_path / name / 'a.mp4').write_bytes(b'0')
    monkeypatch.setattr('gradio.routes.DEFAULT_TEMP_DIR', str(tmp_path / 'of the other'))  # as Gradio remembers it
    with serving(Explorer(max_upload=500, password='open sesame')) as server:
        page = server.config.app
        others = [path.name for path in tmp_path.iterdir() if path != page.folder]
        assert others == []  # neither what a killed one has left, nor a folder of Gradio's
        assert page.folder.is_dir() and server.listening.getsockname()[0] == '127.0.0.1'
        with TestClient(page, base_url='http://127.0.0.1') as client:
            files = {'files': ('a.mp4', b'0' * 1000)}
            assert client.post('/gradio_api/upload', files=files).status_code == 401
            assert client.post('/login', data=dict(username='me', password='wrong')).status_code == 400
            assert client.post('/login', data=dict(username='me', password='open sesame')).status_code == 200
            assert client.post('/gradio_api/upload', files=files).status_code == 413
            monkeypatch.setattr(guard_module, 'UPLOADS', -1)
            assert client.post('/gradio_api/upload', files={'files': ('a.mp4', b'0')}).status_code == 413
    assert list(tmp_path.iterdir()) == []
