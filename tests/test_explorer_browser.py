"""The explorer in a browser: Chromium without a window drives the page as a visitor would."""

import base64
import io
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import numpy as np
import pytest
import timm
import torch
import yaml
from conftest import CLIPS, REPOSITORY
from PIL import Image

from videozoo_timm import __version__, clip_transform, load_model
from videozoo_timm.analysis import box_mask, complete, similar_patches
from videozoo_timm.cli import main
from videozoo_timm.explorer import answers as answers_module
from videozoo_timm.explorer.answers import Answers
from videozoo_timm.explorer.choices import FIRST
from videozoo_timm.explorer.serving import Explorer, serving
from videozoo_timm.figures import to_bytes
from videozoo_timm.text import printable
from videozoo_timm.video import COMPLETION, IN_THIS_PROCESS
from videozoo_timm.weights.writing import save_tensors

pytestmark = pytest.mark.frameworks

ODD = CLIPS / 'odd'
MAE, VIT = 'mae_shapes_none', 'vit_shapes_motion'
CHROMIUM = shutil.which('chromium') or shutil.which('chromium-browser') or shutil.which('google-chrome')
PATIENCE = 900  # seconds, which no machine is so slow as to need
TIMEOUT = 1000 * PATIENCE
STREAMS = re.compile('/(heartbeat|queue/data)')  # which the page ends itself
# The end of a stream of answers reaches the page only after the next event has: by then its server has forgotten it.
HELD_END = """
(() => {
  const fetching = window.fetch, end = 'data: {"msg":"close_stream"';
  let release = () => {};
  window.fetch = async (...given) => {
    const url = String(given[0].url ?? given[0]), response = await fetching(...given);
    if (url.includes('/queue/join')) setTimeout(() => release(), 500);
    if (!url.includes('/queue/data')) return response;
    const held = new TransformStream({
      async transform(chunk, controller) {
        const text = new TextDecoder().decode(chunk), at = text.indexOf(end);
        if (at < 0) return controller.enqueue(chunk);
        if (at > 0) controller.enqueue(new TextEncoder().encode(text.slice(0, at)));
        await new Promise((done) => (release = done));
        window.held = (window.held || 0) + 1;
        controller.enqueue(new TextEncoder().encode(text.slice(at)));
      },
    });
    return new Response(response.body.pipeThrough(held), response);
  };
})();
"""


@pytest.fixture(scope='module')
def chromium():
    playwright = pytest.importorskip('playwright.sync_api', reason='Playwright is not installed: the extra frameworks')
    if CHROMIUM is None:
        pytest.skip('Chromium is not installed: apt-get install chromium')
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=['--no-sandbox'], timeout=TIMEOUT)
        yield browser
        browser.close()


@contextmanager
def served(explorer):
    """The page, served by this process; which asks no other machine for anything meanwhile."""
    pytest.importorskip('gradio')
    said, known, asked = [], threading.Event(), []
    connect = socket.socket.connect

    def connect_here(self, place):
        if self.family != getattr(socket, 'AF_UNIX', None) and place[0] not in ('127.0.0.1', '::1', 'localhost'):
            asked.append(place)
        return connect(self, place)

    def ready(address):
        said.append(address)
        known.set()

    with pytest.MonkeyPatch.context() as patch, serving(explorer, ready) as server:
        patch.setattr(socket.socket, 'connect', connect_here)
        thread = threading.Thread(target=server.run, kwargs=dict(sockets=[server.listening]), daemon=True)
        thread.start()
        assert known.wait(PATIENCE)
        yield said[0]
        server.should_exit = True
        thread.join(PATIENCE)
    assert asked == []


@pytest.fixture(scope='module')
def address(chromium):
    """Where the page is that most visitors open."""
    with served(Explorer()) as address:
        yield address


LOOK = dict(viewport=dict(width=1280, height=1000), reduced_motion='reduce', accept_downloads=True)
PHONE = dict(LOOK, viewport=dict(width=390, height=844), color_scheme='dark', has_touch=True)


@pytest.fixture(scope='module')
def desk(chromium):
    """The browser of most visitors, which reads the page's own files once for all of them."""
    context = chromium.new_context(**LOOK)
    yield context
    context.close()


@pytest.fixture
def visits(chromium, desk, address):
    """Opens the page as another visitor each time; none of whose browsers may ask elsewhere or report an error."""
    opened, requests, errors, addresses = [], [], [], set()

    def visit(script='', at=address, **look):
        context = chromium.new_context(**look) if look else desk
        page = context.new_page()
        opened.append(context if look else page)
        page.set_default_timeout(TIMEOUT)
        page.on('request', lambda request: requests.append(request.url))
        page.on('requestfailed', lambda request: STREAMS.search(request.url) or errors.append(request.url))
        page.on('pageerror', lambda error: errors.append(str(error)))
        page.on('console', lambda said: said.type in ('error', 'warning') and errors.append(said.text))
        page.add_init_script(script)
        page.goto(at)
        page.wait_for_selector('.film canvas.interactive')
        addresses.add(at)
        return Visit(page)

    yield visit
    elsewhere = [url for url in requests if not url.startswith((*(f'{one}/' for one in addresses), 'data:'))]
    told = list(errors)  # what closing brings about is no error
    for one in opened:
        one.close()
    assert requests and elsewhere == [] and told == []


class Visit:
    """One visitor's page. A player that plays nothing by itself stays at the frame that it was put to."""

    def __init__(self, page):
        self.page = page

    def until(self, holds):
        """Wait for what must come, however slow the machine is."""
        given_up = time.monotonic() + PATIENCE
        while not holds():
            assert time.monotonic() < given_up, self.page.locator('#film').inner_text()
            self.page.wait_for_timeout(50)

    def says(self, *texts, video=None):
        """Whether these texts stand in the player, which shows this video."""
        film = self.page.locator('.film')
        said = film.evaluate('film => [film.innerText, film.ariaLabel]')
        return all(text in said[0] for text in texts) and video in (None, said[1])

    def until_says(self, *texts, video=None):
        self.until(lambda: self.says(*texts, video=video))

    def choose(self, control, name, *texts, video=None):
        """Choose, and wait until the player says so; an earlier answer may fill the field in while this is typed."""
        field = self.page.locator(f'#{control} input')

        def chosen():
            if not field.input_value().startswith(name):
                field.fill(name)
                field.press('Enter')
                field.blur()
            return self.says(*texts, video=video)

        self.until(chosen)

    def open(self, view, *texts):
        tab = self.page.get_by_role('tab', name=view)
        if not tab.is_visible():  # on a narrow page some are in a menu
            self.page.locator('#views .overflow-menu > button').click()
            tab = self.page.locator('#views .overflow-dropdown button', has_text=view)
        tab.click()
        self.until_says(*texts)

    def point(self, place, y, x):
        """Move the mouse to a place of a picture, in fractions of it."""
        area = place.bounding_box()
        self.page.mouse.move(area['x'] + x * area['width'], area['y'] + y * area['height'], steps=3)

    def drag(self, first, last):
        """Drag over the first picture, from a place to a place, each as y and x in fractions of it."""
        canvas = self.page.locator('.film canvas.interactive')
        canvas.scroll_into_view_if_needed()
        self.point(canvas, *first)
        self.page.mouse.down()
        self.point(canvas, *last)
        self.page.mouse.up()

    def drag_strip(self, first, last):
        thumbs = self.page.locator('.film .strip canvas')
        thumbs.first.scroll_into_view_if_needed()
        self.point(thumbs.nth(first), 0.5, 0.5)
        self.page.mouse.down()
        self.point(thumbs.nth(last), 0.5, 0.5)
        self.page.mouse.up()

    def frame(self, number):
        """Go to a frame."""
        self.page.locator('.film .place').fill(str(number))

    def labels(self):
        return self.page.locator('.film figcaption').all_inner_texts()

    def box(self):
        return self.page.locator('#box input, #box textarea').first.input_value()

    def pixels(self, label):
        """The frame of a panel that stands on the screen, [H, W, 3], each pixel once."""
        panel = self.page.locator('.film figure', has=self.page.get_by_text(label, exact=True)).locator('canvas')
        scale = max(1, round(panel.evaluate('canvas => canvas.width') / 112))
        data = panel.evaluate("canvas => canvas.toDataURL('image/png').split(',')[1]")
        with Image.open(io.BytesIO(base64.b64decode(data))) as image:
            return np.array(image.convert('RGB'))[::scale, ::scale]

    def told(self):
        return self.page.locator('.film .number').first.inner_text()

    def notes(self):
        return self.page.locator('.film .note').all_inner_texts()

    def code(self, control):
        return self.page.locator(f'#{control} pre').text_content()

    def download(self, ending, folder):
        with self.page.expect_download(timeout=TIMEOUT) as download:
            self.page.locator(f'#download-{ending}').click()
        path = folder / download.value.suggested_filename
        download.value.save_as(path)
        return path

    def upload(self, path):
        with self.page.expect_file_chooser() as chooser:
            self.page.locator('#upload').click()
        chooser.value.set_files(path)


def assert_same(arrays, path):
    with np.load(path) as found:
        assert sorted(found) == sorted(arrays)
        for name, array in arrays.items():
            assert found[name].dtype == array.dtype and np.array_equal(found[name], array, equal_nan=True), name


def test_a_box_is_dragged_and_what_is_filled_in_is_downloaded(visits, tmp_path, monkeypatch):
    """The completion on the screen, the arrays and the picture are those of the Python call to the bit."""
    visit, model = visits(), load_model(MAE)
    assert visit.labels()[:3] == ['original', 'masked', 'completed'] and 'PSNR' in visit.told()
    boxes = (4, 12, 0, 56, 0, 70), (0, 10, 0, 56, 0, 70)
    first, result = (complete(model, clip_transform(model).read(FIRST), mask=box_mask(model, box)) for box in boxes)
    visit.frame(6)
    before = visit.pixels('completed')
    visit.drag((0.1, 0.1), (0.4, 0.6))
    visit.until_says(f'{first.psnr:.2f} dB')
    assert visit.box() == '4,12,0,56,0,70' and (visit.pixels('completed') != before).any()
    visit.drag_strip(0, 9)
    visit.until_says(f'{result.psnr:.2f} dB')
    assert visit.box() == '0,10,0,56,0,70'

    visit.frame(6)
    for label in ('masked', 'completed'):
        assert np.array_equal(visit.pixels(label), to_bytes(getattr(result, label)[:, 6:7].transpose(0, 1))[0]), label
    assert_same(result.arrays(), visit.download('npz', tmp_path))
    monkeypatch.chdir(tmp_path)
    exec(visit.code('python'), {})  # what the page says to type
    assert_same(result.arrays(), tmp_path / 'completion.npz')
    assert '--mask-box 0,10,0,56,0,70' in visit.code('command')

    picture = visit.download('png', tmp_path)
    result.picture(f'{FIRST}, {MAE}, mask: box, PSNR {result.psnr:.2f} dB').save(tmp_path / 'own.png')
    with Image.open(picture) as image, Image.open(tmp_path / 'own.png') as own:
        assert np.array_equal(image, own)
    assert visit.download('svg', tmp_path).read_text().rstrip().endswith('</svg>')
    with Image.open(visit.download('gif', tmp_path)) as animation:
        assert animation.n_frames == 16


def test_a_patch_is_clicked(visits, tmp_path):
    """Of another model and a drawn video that is chosen by its name."""
    visit = visits()
    visit.choose('model', VIT, 'no decoder')  # which fills nothing in
    visit.open('Compare places', 'similarity')
    video = 'drawn:99/up/000003'
    visit.choose('video', video, 'similarity', video=video)
    visit.frame(4)
    canvas = visit.page.locator('.film canvas.interactive')
    canvas.scroll_into_view_if_needed()
    visit.point(canvas, 5.5 / 8, 1.5 / 8)
    visit.page.mouse.down()
    visit.page.mouse.up()
    visit.until_says('patch 2,5,1;')
    model = load_model(VIT)
    result = similar_patches(model, clip_transform(model, COMPLETION).read(video), (2, 5, 1))
    with np.load(visit.download('npz', tmp_path)) as found:
        for name, array in result.arrays().items():
            assert np.array_equal(found[name], array), name
    assert np.array_equal(visit.pixels('frames'), to_bytes(result.marked()[4:5])[0])


def test_a_frame_beside_a_clip(visits, tmp_path):
    """Of an image MAE in a file of one's own, which the page opens with: it shows one frame, and the other plays."""
    file = tmp_path / 'mine.safetensors'
    torch.manual_seed(0)
    state = timm.create_model('mae_t16_im', img_size=64).state_dict()
    save_tensors(state, file, dict(format='pt', architecture='mae_t16_im'))
    with served(Explorer(models=(str(file), MAE))) as address:
        visit = visits(at=address)
        assert visit.page.locator('.film h3').all_inner_texts() == ['mine', MAE]
        assert visit.labels()[:3] == visit.labels()[4:7] == ['original', 'masked', 'completed']
        assert visit.box() == '16,48,16,48' and visit.page.locator('.film .strip canvas').count() == 16
        visit.drag((0.1, 0.1), (0.4, 0.6))
        visit.until(lambda: visit.box() == '0,32,0,48')
        assert f'--weights {file}' in visit.code('command') and '--mask-box 0,16,0,56,0,84' in visit.code('command')
        visit.choose('second', 'no second model', 'of the frame')
        visit.until(lambda: visit.page.locator('.film .place').count() == 0)
        visit.choose('model', VIT, 'no decoder')
        visit.open('Compare places', 'similarity')
    with served(Explorer(models=(VIT,))) as address:
        visit = visits(at=address)  # with what the model can do
        assert 'similarity' in visit.labels() and visit.code('command').startswith('videozoo similar')


def test_each_view_with_two_models_and_the_keyboard(visits):
    visit = visits(**PHONE)
    canvas = visit.page.locator('.film canvas.interactive')
    canvas.press('ArrowDown')
    visit.until(lambda: visit.box() == '4,12,42,98,28,84')
    canvas.press('Shift+ArrowRight')
    visit.until(lambda: visit.box() == '4,12,42,98,28,98')
    visit.choose('second', VIT, 'no decoder', video=FIRST)
    assert visit.page.locator('.film .panels').count() == 1
    for view, label in {'Look': 'overlay', 'Compare places': 'similarity'}.items():
        visit.open(view, label)
        assert visit.page.locator('.film h3').all_inner_texts() == [MAE, VIT]
        assert visit.page.locator('.film .panels').count() == 2
    visit.open('Surprise', 'Click a point')
    visit.page.locator('.film .curve circle[data-window="5"]').press('Enter')
    visit.until_says('Window 5,')
    assert visit.page.evaluate('document.documentElement.scrollWidth') <= 390  # nothing is cut off on a phone


def test_what_is_done_while_an_answer_is_due_is_not_forgotten(visits, monkeypatch):
    """Of what is done, each has its answer; the last one is that to what was done last."""
    visit = visits(HELD_END)
    visit.choose('model', VIT, 'no decoder')
    assert visit.page.evaluate('window.held') > 0
    visit.choose('model', MAE, 'PSNR')
    show, goes_on = Answers.show, threading.Event()

    def slow(*given):
        assert goes_on.wait(PATIENCE)
        return show(*given)

    monkeypatch.setattr(Answers, 'show', slow)
    visit.drag((0.1, 0.1), (0.4, 0.6))
    visit.drag((0.6, 0.6), (0.9, 0.9))
    canvas = visit.page.locator('.film canvas.interactive')
    visit.point(canvas, 0.3, 0.3)
    visit.page.mouse.down()
    visit.point(canvas, 0.6, 0.6)
    goes_on.set()
    visit.until(lambda: visit.box() == '4,12,56,112,56,112')
    visit.page.wait_for_timeout(500)  # the answer comes while another box is dragged
    visit.point(canvas, 0.9, 0.6)
    visit.page.mouse.up()
    visit.until(lambda: visit.box() == '4,12,28,112,28,70')


def test_odd_files_are_uploaded(visits, monkeypatch):
    """Each gives a view or a message, and the page goes on."""
    visit, seen = visits(), {}
    for name in sorted(os.listdir(ODD)):
        before = visit.notes()
        with monkeypatch.context() as patch:
            if name != 'truncated.mp4':  # one of them in a process of its own, as all are otherwise
                patch.setattr(answers_module, 'UPLOADS', IN_THIS_PROCESS)
            visit.upload(ODD / name)
            visit.until(lambda: visit.says(video=name) or visit.notes() not in ([], before))  # noqa: B023
        seen[name] = visit.labels() or visit.notes()
    assert len(seen) >= 12 and all(seen.values()), seen
    assert seen['portrait.mp4'][:3] == ['original', 'masked', 'completed']
    for name in ('not_a_video.mp4', 'empty.mp4', 'audio_only.mp4'):
        assert any(name in note for note in seen[name]), seen[name]
    visit.choose('video', FIRST, 'PSNR', video=FIRST)
    assert visit.labels()[:3] == ['original', 'masked', 'completed'] and not visit.notes()


def test_two_visitors_are_not_mixed(visits, monkeypatch):
    """Each has a box and uploads of their own."""
    monkeypatch.setattr(answers_module, 'UPLOADS', IN_THIS_PROCESS)
    one, other = visits(), visits()
    told = other.told()
    one.drag((0.1, 0.1), (0.4, 0.6))
    one.until(lambda: one.box() == '4,12,0,56,0,70')
    one.upload(ODD / 'portrait.mp4')
    one.until_says('PSNR', video='portrait.mp4')
    one.drag((0.6, 0.6), (0.9, 0.9))
    one.until(lambda: '56,112,56,112' in one.code('command'))
    assert one.code('command').startswith('videozoo complete portrait.mp4')
    for mask in ('random patches', 'a box'):
        other.page.locator('#mask label', has_text=mask).click()
        other.until(lambda mask=mask: (other.told() == told) == (mask == 'a box'))
    assert FIRST in other.code('python')
    other.choose('video', 'portrait.mp4', 'no such video')
    assert other.labels() == []


def test_paths_outside_are_refused(visits, address):
    visit = visits()
    for path in ('../../etc/passwd', '/etc/passwd', str(ODD / 'portrait.mp4')):
        visit.choose('video', path, f'{printable(path, 100)}: no such video')
        assert visit.labels() == []
        for asked in (path, re.sub('/', '%2F', path)):
            answer = visit.page.request.get(f'{address}/gradio_api/file={asked}', timeout=TIMEOUT)
            assert answer.status in (403, 404), asked
            assert b'root:' not in answer.body() and b'ftyp' not in answer.body()


def test_a_space_runs(chromium, tmp_path):
    """What `--space` writes shows the page where a Space runs it, with the given videos and models alone."""
    folder, port = tmp_path / 'space', free_port()
    videos = [str(CLIPS / 'odd' / 'portrait.mp4'), 'drawn:1/left/000000']
    assert main(['explore', *videos, '--model', MAE, '--space', str(folder)]) == 0
    assert main(['explore', '--space', str(folder)]) == 2  # it is there already
    assert sorted(path.name for path in folder.iterdir()) == ['README.md', 'app.py', 'requirements.txt', 'videos']
    header = yaml.safe_load((folder / 'README.md').read_text().split('---')[1])
    assert header['sdk'] == 'gradio' and header['app_file'] == 'app.py' and header['sdk_version'] == gradio_version()
    assert (folder / 'requirements.txt').read_text() == f'videozoo-timm[explore]=={__version__}\n'
    told = dict(GRADIO_SERVER_NAME='127.0.0.1', GRADIO_SERVER_PORT=str(port), PYTHONPATH=str(REPOSITORY))
    pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    with subprocess.Popen([sys.executable, 'app.py'], cwd=folder, env=os.environ | told, **pipes) as app:
        try:
            assert app.stdout.readline().decode().strip() == f'http://127.0.0.1:{port}'
            page = chromium.new_page()
            page.set_default_timeout(TIMEOUT)
            page.goto(f'http://127.0.0.1:{port}')
            page.wait_for_selector('.film canvas.interactive')
            for control, offered in dict(video=['portrait.mp4', videos[1]], model=[f'{MAE} (MAE)']).items():
                field = page.locator(f'#{control} input')
                field.click()
                options = page.locator(f'[id^="{field.get_attribute("aria-controls")}-option"]')
                options.first.wait_for()
                assert [option.get_attribute('aria-label') for option in options.all()] == offered
                field.press('Escape')
        finally:
            app.terminate()  # while a page is open
        assert app.communicate(timeout=PATIENCE)[1].decode() == ''


def free_port():
    with socket.socket() as bound:
        bound.bind(('127.0.0.1', 0))
        return bound.getsockname()[1]


def gradio_version():
    import gradio

    return gradio.__version__
