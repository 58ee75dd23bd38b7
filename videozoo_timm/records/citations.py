"""What is cited beside the papers of the models (`cards.citation`): software and methods, of `data/citations.bib`."""

import re
from functools import lru_cache

from .. import __version__
from ..catalogue import PACKAGED

# Name -> key of the entry, and how a sentence cites it.
_KEYS = {
    'videozoo-timm': ('videozoo_timm', ''),
    'torch': ('paszke2019pytorch', 'Paszke et al., 2019'),
    'timm': ('wightman2019timm', 'Wightman, 2019'),
    'scikit-learn': ('pedregosa2011scikit', 'Pedregosa et al., 2011'),
    'rsatoolbox': ('schutt2023statistical', 'Schütt et al., 2023'),
    'himalaya': ('duprelatour2022feature', 'Dupré la Tour et al., 2022'),
    'rsa': ('kriegeskorte2008representational', 'Kriegeskorte et al., 2008'),
    'fdr': ('benjamini1995controlling', 'Benjamini & Hochberg, 1995'),
    'cka': ('kornblith2019similarity', 'Kornblith et al., 2019'),
    'davis': ('ponttuset2017davis', 'Pont-Tuset et al., 2017'),
    'fid': ('heusel2017gans', 'Heusel et al., 2017'),
}
CITED = tuple(_KEYS)


@lru_cache(maxsize=1)
def _entries() -> dict[str, str]:
    text = (PACKAGED / 'citations.bib').read_text(encoding='utf-8')
    return {match[1]: match[0] for match in re.finditer(r'^@\w+\{(\w+),\n.*?^\}', text, flags=re.M | re.S)}


def bibtex_of(name: str, version: str = __version__) -> str:
    """The BibTeX entry of software or of a method, one of `CITED`."""
    return _entries()[_KEYS[name][0]].replace('VERSION', version)


def in_text(name: str) -> str:
    """How a sentence cites it, in parentheses behind a space; '' of what is cited by its version."""
    return f' ({_KEYS[name][1]})' if _KEYS[name][1] else ''


def in_text_of(entry: str) -> str:
    """The authors, year and place of a BibTeX entry of `cards.citation`, as a sentence cites it."""
    fields = dict(re.findall(r'^\s*(\w+)\s*=\s*\{(.*)\},?$', entry, flags=re.M))
    authors = [author.split(',')[0] for author in fields['author'].split(' and ')]
    names = authors[0] if len(authors) == 1 else ' & '.join(authors) if len(authors) == 2 else f'{authors[0]} et al.'
    return f'{names}, {fields["year"]}; {fields["journal"]}'
