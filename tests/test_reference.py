"""The parts of the handbook that are generated: every public name, command and model has its entry."""

import ast
import importlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest
from conftest import REPOSITORY

from videozoo_timm.catalogue import CHECKPOINTS, GENERATORS
from videozoo_timm.cli import commands

DOCS = REPOSITORY / 'docs'
PAGES = {path: path.read_text() for path in sorted((DOCS / 'reference' / 'api').glob('*.md'))}
FACES = sorted(name for text in PAGES.values() for name in re.findall(r'^\.\. automodule:: (\S+)', text, flags=re.M))


def public_names(module):
    """`__all__`, or what a module defines without an underscore."""
    own = [n for n, v in vars(module).items() if getattr(v, '__module__', '') == module.__name__ and n[0] != '_']
    return getattr(module, '__all__', own)


def test_every_room_with_public_names_has_a_page():
    package = REPOSITORY / 'videozoo_timm'
    rooms = {'videozoo_timm': package / '__init__.py'}
    for path in package.iterdir():
        file = path / '__init__.py' if path.is_dir() else path
        if path.stem[0] != '_' and path.stem != 'cli' and file.suffix == '.py' and file.exists():
            rooms[f'videozoo_timm.{path.stem}'] = file
    public = [
        room
        for room, file in rooms.items()
        for node in ast.parse(file.read_text()).body
        if isinstance(node, ast.Assign) and '__all__' in map(ast.unparse, node.targets)
    ]
    assert len(public) > 7 and set(public) <= set(FACES)
    assert len(FACES) == len(set(FACES))


def test_every_page_of_the_api_is_in_its_list():
    listed = re.findall(r'^api/(\S+)$', (DOCS / 'reference' / 'api.md').read_text(), flags=re.M)
    assert sorted(listed) == [path.stem for path in PAGES]


def test_tutorials_hold_no_outputs():
    notebooks = sorted((DOCS / 'tutorials').glob('*.ipynb'))
    assert len(notebooks) >= 4
    for notebook in notebooks:  # they are executed when the handbook is built
        cells = [cell for cell in json.loads(notebook.read_text())['cells'] if cell['cell_type'] == 'code']
        assert all(cell['outputs'] == [] and cell['execution_count'] is None for cell in cells), notebook


@pytest.mark.frameworks
def test_the_reference_is_the_code(tmp_path):
    """In the handbook at VIDEOZOO_HANDBOOK, or in one that is built here, without running the tutorials."""
    from sphinx.util.inventory import InventoryFile

    built = Path(os.environ.get('VIDEOZOO_HANDBOOK', tmp_path / 'html'))
    if 'VIDEOZOO_HANDBOOK' not in os.environ:
        build = [sys.executable, '-m', 'sphinx', '-W', '-q', '-b', 'html', '-D', 'nb_execution_mode=off', str(DOCS)]
        done = subprocess.run([*build, str(built)], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    entries = InventoryFile.loads((built / 'objects.inv').read_bytes(), uri='').data
    names = {name for kind, found in entries.items() if kind.startswith('py:') for name in found}
    documented = {id(_value(name)) for name in names}
    for face in FACES:
        module = importlib.import_module(face)
        for name in public_names(module):
            assert f'{face}.{name}' in names or id(getattr(module, name)) in documented, f'{face}.{name}'
    page = _text(built / 'reference' / 'commands.html')
    for name, command in commands.commands.items():
        assert f'videozoo-{name}' in entries['std:label']
        shown = [p for p in command.params if isinstance(p, click.Option) and not p.hidden]
        assert all(option in page for p in shown for option in p.opts), name
    assert '--' in page and not re.search(r'[\u2013\u2014]\w', page)  # an option in a sentence, too
    page = _text(built / 'models.html')
    assert all(record.name in page for record in (*CHECKPOINTS, *GENERATORS))


def _value(name):
    """What a dotted name stands for; None for a field that no class attribute has."""
    parts = name.split('.')
    for k in range(len(parts), 0, -1):
        try:
            value = importlib.import_module('.'.join(parts[:k]))
        except ImportError:
            continue
        for part in parts[k:]:
            value = getattr(value, part, None)
        return value
    return None


def _text(page):
    import html

    return html.unescape(re.sub('<[^>]+>', '', page.read_text()))
