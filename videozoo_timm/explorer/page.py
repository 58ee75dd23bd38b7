"""The page: what is chosen, the views with their controls, the player, what to type, and downloads."""

from collections.abc import Callable, Iterator, Sequence
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr

from ..analysis.features import num_blocks
from ..text import printable
from .answers import NONE, Answers, Asked, block_of, check_upload, context_of, contexts_of, place_in, worded
from .choices import GENERATOR
from .film import Sheets, film_of, message
from .session import Session, Visitors
from .views import MASKS, ShownView

__all__ = ['ExplorerPage']

_HERE = Path(__file__).parent
VIEWS = dict(fill='Fill in', look='Look', compare='Compare places', surprise='Surprise', next='Continue')
_INTRO = dict(
    fill='The model sees the video but for <b>what the box hides</b>. What it fills in there stands under '
    '<b>completed</b>. Drag another box over the first picture.',
    look='Where the model looks: how much attention its class token pays to each patch.',
    compare='Which places look alike to the model: the brighter, the more a patch is like the marked one.',
    surprise='How far what comes is from what the model expects, along the whole video.',
    next='How a generator of videos goes on after the first frames.',
)
_HIDDEN = dict(box='a box', random='random patches', temporal='the end', center='the middle in time')
_BOX, _BOX_OF_IMAGE = 'Box: frames t0,t1, pixels y0,y1,x0,x1', 'Box: pixels y0,y1,x0,x1'
_DOWNLOADS = dict(png='picture (PNG)', svg='picture (SVG)', gif='animation (GIF)', npz='arrays (NPZ)')
_NO_GENERATOR = 'None of the models offered here is a generator of videos; gen_shapes_64 of this package is one.'


class ExplorerPage:
    """The page.

    Args:
        visitors: Who is there.
        answers: Computes what they ask for.
        first: Names of the one or two models that are chosen at first.
        max_upload: Bytes of an upload.
    """

    def __init__(self, visitors: Visitors, answers: Answers, first: Sequence[str], max_upload: int) -> None:
        self.visitors, self.answers, self.models, self.first = visitors, answers, answers.models, list(first)
        self.max_upload, self.sheets = max_upload, Sheets()

    def blocks(self) -> gr.Blocks:
        """The page for Gradio."""
        with gr.Blocks(title='videozoo explore', analytics_enabled=False, fill_width=True) as blocks:
            gr.HTML('<h1>videozoo explore</h1>', elem_id='title')
            with gr.Row(elem_id='whole'):
                with gr.Column(scale=1, min_width=290):
                    self._choices()
                with gr.Column(scale=4, min_width=320):
                    self._views()
                    self.film = gr.HTML(
                        None,
                        html_template='<div class="film"><p class="hint">Starting ...</p></div>',
                        css_template='',
                        js_on_load=(_HERE / 'film.js').read_text(),
                        elem_id='film',
                    )
                    with gr.Column(visible=False) as self.below:
                        self._copied()
            self.file = gr.DownloadButton('download', visible='hidden', elem_id='file')
            self.wake = gr.Button('wake', visible='hidden', elem_id='wake')  # see stream.js
            self._listen(blocks)
        return blocks

    def _choices(self) -> None:
        labels = list(self.visitors.given)
        self.video = gr.Dropdown(
            labels,
            value=labels[0],
            label='Video',
            info='Or type the name of a drawn one, as drawn:7/left/000001.',
            allow_custom_value=True,
            elem_id='video',
        )
        self.upload = gr.UploadButton('Upload a video', size='sm', file_count='single', elem_id='upload')
        self.start = gr.Slider(0, 1, 0, step=0.01, label='Start of the window (s)', elem_id='start')
        offers = self.models.offered
        names = [(offer.label, name) for name, offer in offers.items()]
        first, second = (*self.first, NONE)[:2]
        self.model = gr.Dropdown(names, value=first, label='Model', elem_id='model')
        self.second = gr.Dropdown(
            [('no second model', NONE), *names], value=second, label='Second model, beside it', elem_id='second'
        )
        self.status = gr.HTML('', elem_id='status')

    def _views(self) -> None:
        self.tabs: dict[str, gr.Tab] = {}
        with gr.Tabs(elem_id='views', selected=self.visitors.view):
            with self._tab('fill'), gr.Row():
                hidden = [(_HIDDEN[mask], mask) for mask in MASKS]
                self.mask = gr.Radio(hidden, value=Asked.mask, label='Hide', elem_id='mask', scale=2)
                self.box = gr.Textbox(label=_BOX, elem_id='box', max_lines=1, scale=2)
                self.ratio = gr.Slider(
                    0.05, 0.95, Asked.ratio, step=0.05, label='Fraction hidden', elem_id='ratio', visible=False, scale=2
                )
            with self._tab('look'), gr.Row():
                self.look_block = gr.Slider(0, 1, 0, step=1, label='Block', elem_id='look-block')
                self.threshold = gr.Slider(
                    0.05, 1, 1, step=0.05, label='Keep this fraction of the attention', elem_id='threshold'
                )
                self.heads = gr.Radio(
                    [('their mean', False), ('each apart', True)], value=Asked.heads, label='Heads', elem_id='heads'
                )
            with self._tab('compare'):
                self.compare_block = gr.Slider(0, 1, 0, step=1, label='Block', elem_id='compare-block')
            with self._tab('surprise'):
                self.score = gr.Radio(
                    [('squared error', 'mse'), ('normalized L1 error', 'l1')],
                    value=Asked.score,
                    label='Score',
                    elem_id='score',
                )
            with self._tab('next'), gr.Row():
                shown = bool(self.models.names(GENERATOR))
                self.context = gr.Slider(
                    4, 12, Asked.context, step=4, label='Frames given', elem_id='context', visible=shown
                )
                self.samples = gr.Slider(1, 4, Asked.samples, step=1, label='Samples', elem_id='samples', visible=shown)
                self.seed = gr.Slider(0, 99, Asked.seed, step=1, label='Random seed', elem_id='seed', visible=shown)

    def _tab(self, view: str) -> gr.Tab:
        with gr.Tab(VIEWS[view], id=view) as tab:
            gr.HTML(f'<p>{_INTRO[view]}</p>')
        self.tabs[view] = tab
        return tab

    def _copied(self) -> None:
        with gr.Row():
            self.downloads = {
                ending: gr.Button(f'Save {what}', size='sm', elem_id=f'download-{ending}', min_width=150)
                for ending, what in _DOWNLOADS.items()
            }
        self.code = gr.HTML(
            None,
            html_template='<div class="typed"></div>',
            css_template='',
            js_on_load=(_HERE / 'code.js').read_text(),
            elem_id='code',
        )

    def _listen(self, blocks: gr.Blocks) -> None:
        self.controls = [
            self.video,
            self.start,
            self.model,
            self.second,
            self.mask,
            self.ratio,
            self.box,
            self.look_block,
            self.heads,
            self.threshold,
            self.compare_block,
            self.score,
            self.context,
            self.samples,
            self.seed,
        ]
        self.outputs = [self.film, self.status, self.below, self.code, *self.controls]
        how: dict[str, Any] = dict(
            inputs=self.controls,
            outputs=self.outputs,
            show_progress='hidden',
            trigger_mode='multiple',  # any other keeps what is done meanwhile from the server, or forgets it
            api_visibility='private',
        )
        latest: dict[str, Any] = dict(how, trigger_mode='always_last')  # of what sends a value each moment
        blocks.load(self._on_video, **how)
        self.video.input(self._on_video, **how)
        self.upload.upload(self._on_upload, **dict(how, inputs=[self.upload, *self.controls]))
        self.film.select(self._on_film, queue=False, **how)  # in one round trip
        for slider in (self.start, self.ratio, self.threshold):
            slider.input(self._on_control, **latest)
        for slider in (self.look_block, self.compare_block):
            slider.input(self._choosing_block(slider), **latest)
        for control in (self.context, self.samples, self.seed):
            control.input(self._on_control, **latest)
        for control in (self.mask, self.heads, self.score):
            control.input(self._on_control, **how)
        for control in (self.model, self.second):
            control.input(self._on_model, **how)
        self.box.submit(self._on_box, **how)
        self.box.blur(self._on_box, **how)
        for view, tab in self.tabs.items():
            tab.select(self._opening(view), **how)
        for ending, button in self.downloads.items():
            written = button.click(
                self._saving(ending), outputs=[self.file, self.status], api_visibility='private', show_progress='hidden'
            )
            written.success(None, js="() => document.querySelector('#file').click()", api_visibility='private')
        self.wake.click(lambda: None, trigger_mode='multiple', show_progress='hidden', api_visibility='private')
        blocks.unload(self._on_leave)

    # What a visitor does. Each answers with new values of some outputs, and says what it waits for meanwhile.

    def _on_leave(self, request: gr.Request) -> None:
        self.visitors.leave(request.session_hash)

    def _on_control(self, request: gr.Request, *values: Any) -> Iterator[dict[Any, Any]]:
        yield from self._answer(request, values)

    def _on_film(self, request: gr.Request, event: gr.EventData, *values: Any) -> dict[Any, Any]:
        session, given = self.visitors.get(request.session_hash), event._data if isinstance(event._data, dict) else {}
        session.box = _numbers(given.get('box'), 6) or session.box
        session.patch = _numbers(given.get('patch'), 3) or session.patch
        if isinstance(given.get('window'), int):
            session.window = given['window']
        last: dict[Any, Any] = {}
        for answer in self._answer(request, values):
            last |= answer
        return last

    def _on_box(self, request: gr.Request, *values: Any) -> Iterator[dict[Any, Any]]:
        session, text = self.visitors.get(request.session_hash), Asked(*values).box
        try:
            box = tuple(int(part) for part in text.split(',')) if text.strip() else None
        except ValueError:
            told = 'a box is six whole numbers with commas between them (of a single frame four)'
            yield {self.status: _warning(f'{printable(text, 60)}: {told}')}
            return
        stands = session.shown[0].box if session.shown else None
        if stands is not None and box in (stands, stands[2:]):
            yield {self.status: ''}
            return
        session.box = box
        yield from self._answer(request, values)

    def _on_model(self, request: gr.Request, *values: Any) -> Iterator[dict[Any, Any]]:
        session = self.visitors.get(request.session_hash)
        if session.shown and Asked(*session.values).names == Asked(*values).names:  # a list was opened and left
            yield {self.status: ''}
            return
        session.box = session.patch = session.window = session.block = None
        yield from self._answer(request, values)

    def _on_upload(self, request: gr.Request, path: str, *values: Any) -> Iterator[dict[Any, Any]]:
        session = self.visitors.get(request.session_hash)
        opening = session.open(values)
        try:
            video = session.upload(path)
        except (OSError, ValueError) as error:
            yield {self.status: _warning(worded(error, session))}
            return
        yield {self.status: escape(f'Reading {video.label}')}
        try:
            check_upload(video)
        except Exception as error:  # a message, and the file is gone
            text = worded(error, session)
            session.drop(video)
            yield self._refused(session, opening, text)
            return
        if session.opening != opening:  # another video was chosen meanwhile
            yield {self.video: gr.Dropdown(session.labels), self.status: ''}
            return
        yield from self._on_video(request, video.label, *session.values[1:])

    def _on_video(self, request: gr.Request, *values: Any) -> Iterator[dict[Any, Any]]:
        """Another video: where its window may lie, and what it shows."""
        session, label = self.visitors.get(request.session_hash), Asked(*values).video
        opening = session.open(values)
        try:
            video = session.video(label)
            start, most = place_in(session, video)
        except Exception as error:  # libraries that read videos raise more than they document
            yield self._refused(session, opening, worded(error, session))
            return
        chosen = {
            self.video: gr.Dropdown(session.labels, value=video.label),
            self.start: gr.Slider(maximum=max(most, 0.01), value=start, interactive=most > 0),
        }
        if session.opening != opening:
            yield {self.status: gr.skip()}
            return
        for answer in self._answer(request, (video.label, start, *session.values[2:])):  # as the others are by now
            yield {**answer, **chosen}

    def _opening(self, view: str) -> Callable[..., Iterator[dict[Any, Any]]]:
        def open_view(request: gr.Request, *values: Any) -> Iterator[dict[Any, Any]]:
            session = self.visitors.get(request.session_hash)
            if session.view == view:  # Gradio opens the first tab itself, before the window has its place
                yield {self.status: ''}
                return
            session.view = view
            yield from self._answer(request, values)

        return open_view

    def _saving(self, ending: str) -> Callable[..., dict[Any, Any]]:
        def save(request: gr.Request) -> dict[Any, Any]:
            session = self.visitors.get(request.session_hash)
            with session.lock:
                try:
                    return {self.file: str(session.save(ending)), self.status: ''}
                except (OSError, ValueError, ImportError) as error:
                    raise gr.Error(worded(error, session), print_exception=False) from error

        return save

    def _answer(self, request: gr.Request, values: Any) -> Iterator[dict[Any, Any]]:
        """Load what is missing, and show what is asked for."""
        session, asked = self.visitors.get(request.session_hash), Asked(*values)
        turn, names = session.ask(values), self.answers.names(session, asked)
        if not names:
            session.shown = []
            yield self._nothing(_NO_GENERATOR)
            return
        loaded, notes = {}, []
        for name in names:
            try:
                for text in self.answers.load(name, loaded):
                    yield {self.status: escape(text)}
                    if session.turn != turn:  # something else is asked by now, and waits for what it needs
                        return
            except Exception as error:  # of the Hub, of a file: told in the page, and the other model is shown
                notes.append(f'{name}: {worded(error, session)}')
        if loaded and session.view in ('surprise', 'next'):  # which take seconds
            yield {self.status: 'Computing ...'}
        answer = {self.status: gr.skip()}  # nothing, if something else is asked by now
        with session.lock:
            if session.turn == turn:
                notes += self.answers.show(session, asked, loaded)
                shown = session.shown
                answer = {**self._shown(shown, notes, asked.video), **self._new_controls(session, shown, loaded, asked)}
        yield answer

    def _refused(self, session: Session, opening: int, text: str) -> dict[Any, Any]:
        """Why a video cannot be shown; beside another one, if that was chosen meanwhile."""
        if session.opening != opening:
            return {self.status: _warning(text)}
        session.ask(session.values)
        session.shown = []
        return self._nothing(text)

    def _shown(self, shown: list[ShownView], notes: list[str], video: str) -> dict[Any, Any]:
        if not shown:
            return self._nothing(*notes)
        return {
            self.film: film_of(shown, self.sheets, notes, video),
            self.status: '',
            self.below: gr.Column(visible=True),
            self.code: dict(
                command='\n'.join(one.command for one in shown), python='\n\n'.join(one.python for one in shown)
            ),
        }

    def _nothing(self, *notes: str) -> dict[Any, Any]:
        """What stands where nothing can be shown: the reasons."""
        return {self.film: message(*notes), self.status: '', self.below: gr.Column(visible=False)}

    def _new_controls(
        self, session: Session, shown: list[ShownView], loaded: dict[str, Any], asked: Asked
    ) -> dict[Any, Any]:
        """The controls whose range follows from what is shown."""
        new: dict[Any, Any] = {}
        if session.view == 'fill':
            box, of_image = session.box, False
            if shown and shown[0].box:
                box, of_image = shown[0].box, shown[0].grid[0] == 1
            text = ','.join(map(str, box[-4:] if of_image else box)) if box else ''
            new[self.box] = gr.Textbox(text, visible=asked.mask == 'box', label=_BOX_OF_IMAGE if of_image else _BOX)
            new[self.ratio] = gr.Slider(visible=asked.mask != 'box')
        elif session.view in ('look', 'compare') and shown:
            depth = num_blocks(loaded[shown[0].model])
            slider = self.look_block if session.view == 'look' else self.compare_block
            new[slider] = gr.Slider(maximum=depth - 1, value=block_of(session, depth))
        elif session.view == 'surprise' and shown:
            new[self.score] = gr.Radio(visible=any(hasattr(model, 'forward_decoder') for model in loaded.values()))
        elif session.view == 'next' and loaded:
            generator = next(iter(loaded.values()))
            step, most = contexts_of(generator)
            context = context_of(generator, asked.context)
            new[self.context] = gr.Slider(minimum=step, maximum=most, step=step, value=context)
        return new

    def _choosing_block(self, slider: gr.Slider) -> Callable[..., Iterator[dict[Any, Any]]]:
        def choose(request: gr.Request, *values: Any) -> Iterator[dict[Any, Any]]:
            self.visitors.get(request.session_hash).block = int(values[self.controls.index(slider)])
            yield from self._answer(request, values)

        return choose


def _numbers(given: Any, count: int) -> tuple[int, ...] | None:
    """What the player says of a box or a patch."""
    is_meant = isinstance(given, list) and len(given) == count and all(isinstance(number, int) for number in given)
    return tuple(given) if is_meant else None


def _warning(text: str) -> str:
    return f'<strong>{escape(text)}</strong>'
