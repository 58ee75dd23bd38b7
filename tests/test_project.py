"""What the files beside the code say is true of the code: versions, the ways of CI, what a distribution holds."""

import configparser
import os
import re
import subprocess

import pytest
import yaml
from conftest import REPOSITORY

import videozoo_timm

SETUP = configparser.ConfigParser(interpolation=None)
SETUP.read(REPOSITORY / 'setup.cfg')
ADDRESS = SETUP['metadata']['url']


def text_of(name):
    return (REPOSITORY / name).read_text()


def test_one_version():
    assert yaml.safe_load(text_of('CITATION.cff'))['version'] == videozoo_timm.__version__
    newest = re.search(r'^## \[(.+?)\]', text_of('CHANGELOG.md'), flags=re.M)[1]
    assert newest in (videozoo_timm.__version__, 'Unreleased')


def test_one_address():
    files = ['CITATION.cff', 'CHANGELOG.md', 'CONTRIBUTING.md', '.github/ISSUE_TEMPLATE/config.yml', 'docs/conf.py']
    for name in files:
        own = re.findall(r'https://github\.com/[\w-]+/videozoo-timm', text_of(name))
        assert own and set(own) == {ADDRESS}, name


def test_workflows_run_the_pythons_that_are_named():
    classifiers = SETUP['metadata']['classifiers']
    named = re.findall(r'Python :: (3\.\d+)$', classifiers, flags=re.M)
    linux = yaml.safe_load(text_of('.github/workflows/tests.yml'))['jobs']['linux']
    assert linux['strategy']['matrix']['python'] == named
    assert SETUP['options']['python_requires'] == f'>={named[0]}'


def test_workflows_have_few_rights_and_an_end():
    for path in (REPOSITORY / '.github' / 'workflows').glob('*.yml'):
        workflow = yaml.safe_load(path.read_text())
        assert workflow['permissions'] == {'contents': 'read'}, path.name
        assert all(job['timeout-minutes'] <= 60 for job in workflow['jobs'].values()), path.name


def test_the_hooks_are_what_ci_runs():
    hooks = yaml.safe_load(text_of('.pre-commit-config.yaml'))['repos'][0]['hooks']
    entries = [hook['entry'].replace(' --force-exclude', '') for hook in hooks]
    ci, workflow = text_of('.ci/run'), text_of('.github/workflows/tests.yml')
    assert all(entry in ci and entry in workflow for entry in entries)


# Stands for each program that .ci/run calls: notes how it was called, and fails if told.
PROGRAM = """#!/bin/bash
said="${0##*/} $*"
echo "$said" >> "$CALLS"
if [[ $said == 'python3 -m venv '* ]]; then
    mkdir -p "$3/bin" && touch "$3/bin/activate" && cp "$0" "$3/bin/pip"
fi
[[ $said != $FAILING ]] || exit 3
"""


@pytest.mark.parametrize(
    'failing',
    [
        '',
        'pytest ',
        'pytest -m full*',
        'pytest -m fuzz*',
        'pytest -n 0 -m frameworks*',
        'videozoo *',
        'codespell *',
        'sphinx-build *',
        'pip *lowest.txt',
        'pytest tests/*',
    ],
)
def test_ci_fails_if_one_of_its_commands_does(failing, tmp_path):
    for name in ('README.md', '.ci/run'):
        (tmp_path / 'clone' / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / 'clone' / name).write_text(text_of(name))
    styles = ['ruff', 'basedpyright', 'codespell']
    programs = ['python3', 'python', 'pip', 'pytest', 'videozoo', 'sphinx-build', 'twine', *styles]
    for program in programs:
        (tmp_path / program).write_text(PROGRAM)
        (tmp_path / program).chmod(0o755)
    calls, path = tmp_path / 'calls', f'{tmp_path}{os.pathsep}{os.environ["PATH"]}'
    environment = dict(os.environ, PATH=path, TMPDIR=str(tmp_path), CALLS=str(calls), FAILING=failing)
    done = subprocess.run(['bash', '.ci/run'], cwd=tmp_path / 'clone', env=environment, capture_output=True, text=True)
    assert (done.returncode == 0) == (not failing), done.stderr
    called = calls.read_text().splitlines()
    assert {line.split()[0] for line in called} == set(programs) or failing
    assert all(
        (REPOSITORY / word).exists() for line in called for word in line.split() if word.startswith('tests/test_')
    )
    assert not list(tmp_path.glob('tmp*'))  # what it made


def test_the_handbook_has_one_command():
    command = 'sphinx-build -W -b html docs build/handbook'
    # Not in setup.cfg: that of an sdist is written anew, without comments.
    for name in ('CONTRIBUTING.md', 'docs/conf.py', '.github/workflows/handbook.yml'):
        assert command in text_of(name), name
    assert 'sphinx-build -W -b html docs "$work/handbook"' in text_of('.ci/run')


def test_what_contributing_names_is_there():
    text = text_of('CONTRIBUTING.md')
    for path in re.findall(r'\]\((?!http)([^)]+)\)', text):
        assert (REPOSITORY / path).exists(), path
    for path in re.findall(r'`([\w./]+\.(?:py|json|md|yml|cff))`', text):
        assert (REPOSITORY / path).exists() or (REPOSITORY / 'videozoo_timm' / path).exists() or '/' not in path, path
    house = re.search(r'```text\n(.*?)```', text, flags=re.S)[1]
    from test_house import FLOORS

    assert all(re.search(rf'\b{room}\b', house) for floor in FLOORS for room in floor)
