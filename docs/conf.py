"""The handbook: `sphinx-build -W -b html docs build/handbook`, in which nothing is fetched from the network."""

import os
import sys
from pathlib import Path
from typing import ClassVar

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]
# The kernels that run the tutorials inherit these.
os.environ['PYTHONPATH'] = os.pathsep.join(filter(None, [str(HERE.parent), os.environ.get('PYTHONPATH')]))
os.environ |= dict(
    HF_HUB_OFFLINE='1',
    PYDEVD_DISABLE_FILE_VALIDATION='1',
    PYTHONWARNINGS='ignore:IProgress not found',
    TQDM_DISABLE='1',
)
os.environ.pop('MPLBACKEND', None)  # the kernel's own shows figures

from pygments.lexer import inherit  # noqa: E402
from pygments.lexers.shell import BashLexer  # noqa: E402
from pygments.token import Name, Text  # noqa: E402

from videozoo_timm import __version__  # noqa: E402  # behind the path

project = 'videozoo-timm'
author = 'the videozoo-timm maintainers'
project_copyright = f'2026, {author}'
version = release = __version__

extensions = ['myst_nb', 'sphinx.ext.autodoc', 'sphinx.ext.napoleon', 'sphinx.ext.viewcode', 'generated']
exclude_patterns = ['frameworks.txt']
smartquotes_action = 'D'  # dashes alone: T' is a number of time steps
default_role = 'py:obj'  # single backticks: code, and a link where the handbook knows the name

html_theme = 'furo'
html_title = f'videozoo-timm {release}'
html_static_path = ['static']
html_js_files = ['models.js']
html_css_files = ['handbook.css']
html_theme_options = dict(
    source_repository='https://github.com/eminorhan/videozoo-timm',
    source_branch='main',
    source_directory='docs/',
)

myst_enable_extensions = ['colon_fence', 'deflist']
myst_heading_anchors = 3

nb_execution_mode = 'cache'
nb_execution_in_temp = True
nb_execution_timeout = 600
nb_execution_raise_on_error = True
nb_merge_streams = True

autodoc_typehints = 'signature'
autodoc_preserve_defaults = True
autodoc_member_order = 'groupwise'
python_maximum_signature_line_length = 100
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False
viewcode_follow_imported_members = True


class CommandLexer(BashLexer):
    """Marks options, which the style sheet keeps in one piece, and takes no command of ours for one of the shell."""

    tokens: ClassVar = {
        'root': [
            (r'(?<=videozoo )[a-z][\w-]*', Text),
            (r'(?<!\S)--?[a-zA-Z][\w-]*', Name.Attribute),
            inherit,
        ],
    }


def setup(app):
    app.add_lexer('bash', CommandLexer)
