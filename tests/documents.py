"""The README and the handbook as tests see them: pages, their code blocks and their links."""

import re
import shlex
from pathlib import Path
from typing import NamedTuple

REPOSITORY = Path(__file__).resolve().parent.parent
README, DOCS = REPOSITORY / 'README.md', REPOSITORY / 'docs'
# reference/ is generated, and _build/ is what Sphinx writes.
PAGES = [
    README,
    *(page for page in sorted(DOCS.rglob('*.md')) if page.relative_to(DOCS).parts[0] not in ('reference', '_build')),
]
_MARK = r'(?:^<!-- not run: (?P<reason>[^\n]*) -->\n\n?)?'
_BLOCK = re.compile(_MARK + r'^(?P<fence>```+)(?P<language>[^\n]*)\n(?P<text>.*?)^(?P=fence)$', flags=re.S | re.M)


class Block(NamedTuple):
    """A fenced block of code. `reason` is given in the comment before it, `<!-- not run: REASON -->`."""

    line: int
    language: str
    text: str
    reason: str | None

    @property
    def commands(self) -> list[list[str]]:
        """The command lines of a bash block, in words, without comments."""
        lines = re.sub(r'\\\n\s*', '', self.text).splitlines()
        return [words for line in lines if (words := shlex.split(line, comments=True))]


def name_of(page: Path) -> str:
    return page.relative_to(REPOSITORY).as_posix()


def blocks_of(text: str) -> list[Block]:
    return [
        Block(text[: m.start('fence')].count('\n') + 1, m['language'].strip(), m['text'], m['reason'])
        for m in _BLOCK.finditer(text)
    ]


def links_of(text: str) -> list[str]:
    """What a page links to or shows, without its code."""
    text = re.sub(r'`[^`\n]*`', '', _BLOCK.sub('', text))
    forms = r'\]\(<?([^)>\s]+)>?[^)]*\)', r'^\[[^\]\n]+\]: (\S+)', r'<img[^>]* src="([^"]+)"'
    return [link for form in forms for link in re.findall(form, text, flags=re.M)]
