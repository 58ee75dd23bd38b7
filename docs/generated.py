"""What the handbook generates from the code: the directives `commands` and `models-table`."""

import re
from typing import Any

import click
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.domains.python import PyObject
from sphinx.util.docutils import SphinxDirective

from videozoo_timm.cli import commands
from videozoo_timm.cli.list_models import markdown_table


class CommandReference(SphinxDirective):
    """Every command with what its `--help` says, in the sections of `videozoo --help`."""

    def run(self) -> list[nodes.Node]:
        sections = []
        for title, members in commands.sections.items():
            section = self._section(title, f'commands-{title}')
            for command in members:
                section += self._command(command)
            sections.append(section)
        return sections

    def _section(self, title: str, name: str) -> nodes.section:
        section = nodes.section(ids=[nodes.make_id(name)], names=[nodes.fully_normalize_name(name)])
        section += nodes.title('', title)
        self.state.document.note_explicit_target(section)
        return section

    def _command(self, command: click.Command) -> nodes.section:
        ctx = click.Context(command, info_name=f'videozoo {command.name}')
        section = self._section(command.name, f'videozoo-{command.name}')
        section += _code(' '.join(['videozoo', command.name, *command.collect_usage_pieces(ctx)]), 'text')
        for paragraph in (command.help or '').replace('\b\n', '').split('\n\n'):
            section += _paragraph(paragraph)
        options: dict[str, nodes.definition_list] = {}
        for param in command.get_params(ctx):
            record = None if isinstance(param, click.Argument) else param.get_help_record(ctx)
            if record is None or '--help' in param.opts:
                continue
            heading = getattr(param, 'section', 'Options')
            term = nodes.term('', '', nodes.literal('', record[0]))
            item = nodes.definition_list_item('', term, nodes.definition('', _paragraph(record[1])))
            options.setdefault(heading, nodes.definition_list(classes=['options'])).append(item)
        for heading in sorted(options, key=lambda heading: heading != 'Options'):  # which come first
            section += nodes.rubric('', heading)
            section += options[heading]
        if command.examples:
            section += nodes.rubric('', 'Examples')
            section += _code('\n'.join(line.strip() for line in command.examples))
        return section


def _paragraph(text: str) -> nodes.paragraph:
    """The text, its options as code, since elsewhere two hyphens are a dash."""
    parts = re.split(r'(?<![\w-])(--[a-z][\w-]*)', ' '.join(text.split()))
    return nodes.paragraph(
        '', '', *(nodes.literal('', p) if k % 2 else nodes.Text(p) for k, p in enumerate(parts) if p)
    )


def _code(text: str, language: str = 'bash') -> nodes.literal_block:
    return nodes.literal_block(text, text, language=language)


class ModelsTable(SphinxDirective):
    """The models, each with a row; `static/models.js` gives the table a field that filters them."""

    def run(self) -> list[nodes.Node]:
        return [nodes.container('', *self.parse_text_to_nodes(markdown_table(every=True)), classes=['models'])]


def _skip(app: Sphinx, what: str, name: str, value: Any, skip: bool, options: Any) -> bool | None:
    """Leave out fields of records, which the docstring of their class tells; constants of modules stay."""
    about = getattr(value, '__doc__', None) or ''
    plain = not callable(value) and not isinstance(value, property)
    return True if what == 'class' and (plain or not about) and name != '__call__' else None


def _prepare(app: Sphinx, what: str, name: str, value: Any, options: Any, lines: list[str]) -> None:
    """Say in a docstring what its form means here, before napoleon reads it."""
    if what == 'data':
        lines.clear()  # of its type
    for k, line in enumerate(lines[:-2]):
        if line.endswith(':') and not lines[k + 1].strip() and _indent(lines[k + 2]) > _indent(line):
            lines[k] += ':'  # code, which reST marks by two colons
    for k, line in enumerate(lines[:-1]):
        if line.strip() in ('Returns:', 'Yields:'):  # no types, which the annotations tell; a colon would end one
            lines[k + 1] = f'{" " * _indent(lines[k + 1])}: {lines[k + 1].lstrip()}'


def _sign(
    app: Sphinx, what: str, name: str, value: Any, options: Any, signature: str | None, returned: str | None
) -> tuple[str, str | None] | None:
    """Show defaults that are functions by their names, and made ones as an ellipsis: Sphinx reads neither."""
    if signature:
        signature = re.sub(r'<(?:built-in )?function (\w+)>', r'\1', signature).replace('<factory>', '...')
        return signature, returned
    return None


def _keep_links(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: Any) -> None:
    """Take out of a page of source what viewcode links and nobody wrote: objects under a second name, `builtins`."""
    if page.startswith('_modules/') and 'body' in context:
        known = app.env.domains['py'].data['objects']
        back = r'<a class="viewcode-back" href="[^"#]*#([^"]*)">.*?</a>'
        body = re.sub(back, lambda link: link[0] if link[1] in known else '', context['body'])
        context['body'] = body.replace('<li><a href="builtins.html">builtins</a></li>', '')


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def setup(app: Sphinx) -> dict[str, bool]:
    for field in PyObject.doc_field_types:
        if field.name == 'variable':
            field.label = 'Attributes'  # of records; Sphinx says "Variables"
    app.add_directive('commands', CommandReference)
    app.add_directive('models-table', ModelsTable)
    app.connect('autodoc-skip-member', _skip)
    app.connect('autodoc-process-signature', _sign)
    app.connect('autodoc-process-docstring', _prepare, priority=400)  # before napoleon's
    app.connect('html-page-context', _keep_links)
    return dict(parallel_read_safe=True)
