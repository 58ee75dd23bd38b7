"""What a test can hold of the house: floors, no circle, private names in one room, files of one subject, no flags."""

import ast
import copy
import re
from functools import cache
from pathlib import Path

from conftest import REPOSITORY

PACKAGE = REPOSITORY / 'videozoo_timm'
# From the ground up. A room imports from lower floors and from itself; rooms of one floor do not know each other.
FLOORS = (
    ('_compat', '_lazy', 'errors', 'notes', 'text'),
    ('files', 'paths', 'processes'),
    ('catalogue',),
    ('cards', 'outputs', 'synthetic', 'weights'),
    ('contents', 'video'),
    ('identity',),
    ('models',),
    ('factory', 'inference', 'figures', 'records'),
    ('analysis',),
    ('adapters', 'training', 'publishing', 'bench'),
    ('explorer',),
    ('cli',),
)
FLOOR_OF = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
# The paths of version 0.1.0, which warn and hand on.
FORMER = {Path('analysis', name) for name in ('journal.py', 'pictures.py', 'pipeline.py', 'probe.py', 'speed.py')} | {
    Path('video/drawing.py')
}
HEAVY = ('PIL', 'accelerate', 'av', 'huggingface_hub', 'matplotlib', 'numpy', 'safetensors', 'sklearn', 'timm', 'torch')
LONGEST = 400  # lines; above, look for the second subject


@cache
def files():
    return {path.relative_to(PACKAGE): ast.parse(path.read_text()) for path in sorted(PACKAGE.rglob('*.py'))}


def room_of(path):
    return path.parts[0].removesuffix('.py')


def imports_of(path, tree):
    """Modules of this package that a file imports, as paths below it, and whether as it is imported itself.

    What type checkers alone import is left out.
    """
    tree = _without_types(tree)
    package = path.parts[:-1]
    top = {id(node) for node in _at_import(tree)}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = package[: len(package) - node.level + 1] if node.level > 1 else package
            module = (*base, *(node.module or '').split('.')) if node.module else base
            for name in node.names:
                yield _file_of((*module, name.name)) or _file_of(module), id(node) in top
        elif isinstance(node, ast.ImportFrom) and (node.module or '').split('.')[0] == 'videozoo_timm':
            yield _file_of(tuple(node.module.split('.')[1:])), id(node) in top


def _without_types(tree):
    class Drop(ast.NodeTransformer):
        def visit_If(self, node):
            self.generic_visit(node)
            return node.orelse if ast.unparse(node.test).endswith('TYPE_CHECKING') else node

    return Drop().visit(copy.deepcopy(tree))


def _at_import(tree):
    """Statements that run when a file is imported."""
    todo = list(tree.body)
    while todo:
        node = todo.pop()
        yield node
        if isinstance(node, (ast.If, ast.Try, ast.With, ast.ClassDef)):
            todo += [child for child in ast.iter_child_nodes(node) if isinstance(child, ast.stmt)]


def _file_of(module):
    for path in (Path(*module).with_suffix('.py') if module else None, Path(*module, '__init__.py')):
        if path and path in files():
            return path
    return None


def test_imports_run_downwards():
    wrong = []
    for path, tree in files().items():
        mine = room_of(path)
        if mine in ('__init__', '__main__') or path in FORMER:
            continue
        for other, _ in imports_of(path, tree):
            theirs = room_of(other) if other else '__init__'
            if theirs not in (mine, '__init__') and FLOOR_OF[theirs] >= FLOOR_OF[mine]:
                wrong.append(f'{path} imports {other}')
    assert not wrong


def test_every_room_has_its_floor():
    assert {room_of(path) for path in files()} - {'__init__', '__main__'} == set(FLOOR_OF)


def test_imports_run_in_no_circle():
    graph = {
        path: {other for other, at_import in imports_of(path, tree) if at_import and other not in (None, path)}
        for path, tree in files().items()
    }
    done, under_way = set(), []

    def visit(path):
        if path in done:
            return
        assert path not in under_way, f'a circle: {[str(p) for p in under_way[under_way.index(path) :]]}'
        under_way.append(path)
        for other in graph[path]:
            visit(other)
        done.add(under_way.pop())

    for path in graph:
        visit(path)


def test_private_names_of_others_stand_in_compat_alone():
    wrong = []
    for path, tree in files().items():
        if path == Path('_compat.py'):
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and not node.level:
                names = [*node.module.split('.'), *(name.name for name in node.names)]
            elif isinstance(node, ast.Import):
                names = [part for name in node.names for part in name.name.split('.')]
            elif isinstance(node, ast.Attribute) and _root_of(node) in ('torch', 'timm', 'safetensors', 'av', 'np'):
                names = [node.attr]
            else:
                continue
            wrong += [f'{path}:{node.lineno} {name}' for name in names if re.match(r'_[a-zA-Z]', name)]
    assert not wrong


def _root_of(node):
    while isinstance(node, ast.Attribute):
        node = node.value
    return node.id if isinstance(node, ast.Name) else None


def test_the_command_line_starts_light():
    """What its files import as they are imported; `tests/test_cli.py` looks at real processes."""
    graph = {
        path: {other for other, at_import in imports_of(path, tree) if at_import and other}
        for path, tree in files().items()
    }
    commands = [path for path in files() if room_of(path) == 'cli' and '\n@command(' in (PACKAGE / path).read_text()]
    assert len(commands) > 15
    todo, reached = [Path('__main__.py'), Path('cli/__init__.py'), *commands], set()
    while todo:
        path = todo.pop()
        if path not in reached:
            reached.add(path)
            todo += graph[path] - {Path('__init__.py')}  # which has a switch for this
    heavy = []
    for path in sorted(reached):
        for node in _at_import(_without_types(files()[path])):
            names = (
                [node.module or '']
                if isinstance(node, ast.ImportFrom) and not node.level
                else ([name.name for name in node.names] if isinstance(node, ast.Import) else [])
            )
            heavy += [f'{path} imports {name}' for name in names if name.split('.')[0] in HEAVY]
    assert not heavy


def test_files_have_one_subject():
    long = {str(path): len((PACKAGE / path).read_text().splitlines()) for path in files()}
    assert {path: lines for path, lines in long.items() if lines > LONGEST} == {}


def test_nothing_below_the_command_line_names_a_flag():
    wrong = []
    for path, tree in files().items():
        if room_of(path) in ('cli', '__main__'):
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                flags = re.findall(r'(?<![\w-])--[a-z][a-z-]+', node.value)
                wrong += [f'{path}:{node.lineno} {flag}' for flag in flags]
    assert not wrong


def test_no_two_classes_have_one_name():
    where = {}
    for path, tree in files().items():
        for node in tree.body:
            if isinstance(node, ast.ClassDef):
                where.setdefault(node.name, []).append(str(path))
    assert {name: paths for name, paths in where.items() if len(paths) > 1} == {}
