"""Errors that name parameters, and the records of options that travel together."""

import math
import pickle
import re
from pathlib import Path

import pytest

from videozoo_timm.cli.output import complain
from videozoo_timm.errors import DivergenceError, Explained, NoInterpreterError, UserError
from videozoo_timm.inference.reporting import SILENT, Reporter, with_fields
from videozoo_timm.training.finetune import _criterion
from videozoo_timm.training.run_folder import make_folder
from videozoo_timm.training.stream import check_files
from videozoo_timm.video import IN_THIS_PROCESS, Reading, Sampling, centered_starts, centred_starts

HELD = UserError(
    '{} holds another run ({}); name another {folder}, or {force} starts over',
    Path('runs/{a}'),
    'seed was 0, is {1}',
    folder=None,
    force=True,
)


def told(error, capsys):
    complain(error)
    return capsys.readouterr().err


def test_parameters_are_named_as_the_caller_types_them(capsys):
    held = 'runs/{a} holds another run (seed was 0, is {1}); name another '
    assert str(HELD) == f'{held}folder, or force=True starts over'
    assert told(HELD, capsys) == f'videozoo: {held}--out, or --force starts over\n'
    assert told(UserError('more than {max_failed} allows', max_failed=0.1), capsys) == (
        'videozoo: more than --max-failed 0.1 allows\n'
    )
    assert told(UserError('nothing to name in {this}'), capsys) == 'videozoo: nothing to name in {this}\n'


@pytest.mark.parametrize(
    'call, python, flags',
    [
        (lambda: check_files(['a.mp4', 'b.mp4'], 2, matched=True), 'matched=True: of 2 files', '--matched: of 2 files'),
        (
            lambda: _criterion(0.8, 1.0, 0.1, 3, 5),
            'batch_size=3: mixup and cutmix pair clips, so it must be even, or mixup=0 and cutmix=0 turn',
            '--batch-size 3: mixup and cutmix pair clips, so it must be even, or --mixup 0 and --cutmix 0 turn',
        ),
    ],
)
def test_the_library_knows_no_flags(call, python, flags, capsys):
    with pytest.raises(ValueError, match=f'^{re.escape(python)}') as raised:
        call()
    assert told(raised.value, capsys).startswith(f'videozoo: {flags}')


def test_a_link_of_another_user(tmp_path, monkeypatch, capsys):
    (tmp_path / 'link').symlink_to(tmp_path)
    monkeypatch.setattr('videozoo_timm.training.run_folder._is_mine', lambda status: False)
    with pytest.raises(ValueError, match='remove it, or name another folder$') as raised:
        make_folder(tmp_path / 'link')
    assert told(raised.value, capsys).endswith('remove it, or name another --out\n')


@pytest.mark.parametrize(
    'kind, base', [(UserError, ValueError), (DivergenceError, FloatingPointError), (NoInterpreterError, RuntimeError)]
)
def test_errors_go_from_process_to_process(kind, base, capsys):
    error = kind('{} of {{x}} is lost: {resume} continues', Path('{0}'), resume=True)
    again = pickle.loads(pickle.dumps(error))
    assert isinstance(again, base) and isinstance(again, Explained)
    assert str(again) == str(error) == '{0} of {x} is lost: resume=True continues'
    assert told(again, capsys) == 'videozoo: {0} of {x} is lost: --resume continues\n'


def test_records_take_fields_by_name():
    said = []
    reading, reporter = with_fields(IN_THIS_PROCESS, SILENT, dict(time_limit=2.0, say=said.append))
    assert reading == Reading(time_limit=2.0) and IN_THIS_PROCESS == Reading()
    reporter.say('word')
    assert said == ['word'] and reporter.progress(1) is None and reporter.report('path', 'reason') is None
    assert with_fields(reading, reporter, {}) == (reading, reporter)
    with pytest.raises(TypeError, match='workers'):
        with_fields(IN_THIS_PROCESS, Reporter(), dict(workers=1))


@pytest.mark.parametrize(
    'fields, words',
    [
        (dict(num_workers=-1), 'num_workers=-1: must not be negative'),
        (dict(time_limit=0.0), 'time_limit=0.0: must be more than 0'),
        (dict(time_limit=math.nan), 'time_limit=nan: must be more than 0'),
    ],
)
def test_readings_that_cannot_be(fields, words):
    with pytest.raises(ValueError, match=words):
        Reading(**fields)


def test_the_former_spelling_warns_and_works():
    with pytest.warns(DeprecationWarning, match='centred_starts is now centered_starts'):
        assert centred_starts(10.0, Sampling(16, 128), 3) == centered_starts(10.0, Sampling(16, 128), 3)
