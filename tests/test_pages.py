"""What looks at the pages of the handbook finds what is wrong with them: .ci/check_pages.py."""

import shutil
import sys

import pytest
from documents import DOCS, REPOSITORY

sys.path.insert(0, str(REPOSITORY / '.ci'))
import check_pages  # behind the path

PAGE = """<!doctype html><style>
  html { color-scheme: light dark }
  body { background: white; color: black }
  @media (prefers-color-scheme: dark) { body { background: black; color: #222 } }
</style>
<article>
  <h1 id="here">A page</h1>
  <a href="#here">right</a> <a href="#there">no anchor</a> <a href="gone.html">no file</a>
  <p style="font-size: 11px">small</p>
  <p style="color: #aaa">faint</p>
  <img src="clip.jpg" alt="a clip" style="width: 300px; height: 300px">
  <img src="clip.jpg" alt="a clip" style="width: 300px">
  <img src="clip.jpg" alt="clip.jpg">
  <img src="http://192.0.2.1/a.jpg" alt="elsewhere">
  <div style="overflow: hidden; width: 300px"><pre style="width: 600px">cut</pre></div>
  <div style="overflow: auto"><pre style="width: 2000px">scrolls</pre></div>
  <script>console.error('broken')</script>
</article>
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / 'index.html').write_text(PAGE)
    shutil.copy(DOCS / 'static' / 'clip.jpg', tmp_path)
    return tmp_path


def test_links_that_lead_nowhere_and_pictures_without_a_description_are_found(folder):
    assert list(check_pages.broken_links(folder)) == [
        'index.html: picture clip.jpg has no description',
        'index.html: links to #there, and index.html has no such anchor',
        'index.html: links to gone.html, which is not there',
    ]


@pytest.mark.frameworks
def test_what_a_reader_would_stumble_over_is_found(folder):
    pytest.importorskip('playwright', reason='Playwright is not installed')
    if not shutil.which('chromium'):
        pytest.skip('no chromium on PATH')
    found = [line.removeprefix('index.html: ') for line in check_pages.faults_of_pages(folder)]
    phones, light, dark = ' (phone-dark, phone-light)', ' (desktop-light, phone-light)', ' (desktop-dark, phone-dark)'
    for fault, views in [
        ('asks for http://192.0.2.1/a.jpg', ''),
        ('does not get http://192.0.2.1/a.jpg', ''),
        ('console: broken', ''),
        ('picture clip.jpg is stretched', ''),
        ('letters of 11.0 px: body article p "small"', ''),
        ('contrast of 2.3: body article p "faint"', light),
        ('contrast of 1.3: body article h1 "A page"', dark),
        ('cut off at the right: article div pre "cut"', phones),
    ]:
        (line,) = (line for line in found if line.startswith(fault))
        assert not views or line.endswith(views)
    assert not any('scrolls' in line for line in found)
