"""Opens each page of a built handbook as a reader does: python .ci/check_pages.py build/handbook [--shots FOLDER].

In Chromium (`pip install playwright`, and `playwright install chromium` or the system's own), each page at the width of
a desktop and of a phone, light and dark. Prints what is wrong, and exits with 0 if nothing is:

- links and anchors that lead nowhere, and pictures without a description (`--links` looks for these alone, without a
  browser);
- what a page asks for and does not get, or asks of another machine, and what the browser's console complains about;
- a page that is wider than the window, and what is cut off in it;
- pictures that are missing or stretched;
- letters below 12 px, and text of little contrast (WCAG AA: 4.5, or 3 for large letters).
"""

import argparse
import posixpath
import shutil
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

LOOK = (Path(__file__).parent / 'look_at_page.js').read_text()
VIEWS = {
    f'{device}-{scheme}': (width, scheme)
    for device, width in (('desktop', 1280), ('phone', 390))
    for scheme in ('light', 'dark')
}
SPHINX = ('_modules/', 'genindex.html', 'py-modindex.html', 'search.html')  # pages that nobody wrote


class _Anchors(HTMLParser):
    """What a page links to, what in it can be linked to, and its pictures without a description."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.links, self.names, self.mute = set[str](), set[str](), set[str]()
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.links |= {value for name, value in attrs if name in ('href', 'src') and value}
        self.names |= {value for name, value in attrs if name in ('id', 'name') and value}
        found = dict(attrs)
        if tag == 'img' and found.get('alt') in (None, '', found.get('src')):
            self.mute.add(found.get('src') or '')


def broken_links(handbook: Path) -> Iterator[str]:
    """Yield a line for each link within the handbook that leads nowhere, and for each picture without a description."""
    pages = {p.relative_to(handbook).as_posix(): _Anchors(p.read_text()) for p in sorted(handbook.rglob('*.html'))}
    for page, anchors in pages.items():
        yield from (f'{page}: picture {picture[:60]} has no description' for picture in sorted(anchors.mute))
        for link in sorted(anchors.links):
            url = urlsplit(link)
            if url.scheme or url.netloc:
                continue
            path = posixpath.normpath(posixpath.join(posixpath.dirname(page), unquote(url.path))) if url.path else page
            if not (handbook / path).is_file():
                yield f'{page}: links to {link}, which is not there'
            elif url.fragment and path in pages and unquote(url.fragment) not in pages[path].names:
                yield f'{page}: links to {link}, and {path} has no such anchor'


def faults_of_pages(handbook: Path, only: str = '', shots: Path | None = None) -> Iterator[str]:
    """Yield a line for each fault seen in the pages whose name holds `only`; write pictures of them to `shots`."""
    from playwright.sync_api import sync_playwright

    base, said = handbook.resolve().as_uri() + '/', list[str]()
    names = [p.relative_to(handbook).as_posix() for p in sorted(handbook.rglob('*.html'))]
    with sync_playwright() as playwright:
        # The sandbox of Chromium does not start in containers. The pages are our own.
        browser = playwright.chromium.launch(executable_path=shutil.which('chromium'), args=['--no-sandbox'])
        page = browser.new_page()
        page.set_default_timeout(120_000)
        page.on('console', lambda m: said.append(f'console: {m.text}') if m.type in ('error', 'warning') else None)
        page.on('pageerror', lambda error: said.append(f'error: {error}'))
        page.on('requestfailed', lambda request: said.append(f'does not get {request.url}'))
        page.on('request', lambda r: None if r.url.startswith((base, 'data:')) else said.append(f'asks for {r.url}'))
        for name in names:
            if name.startswith(SPHINX) or only not in name:
                continue
            said.clear()
            page.goto(base + name)
            page.add_style_tag(content='* { transition: none !important; animation: none !important }')
            found = {line: set(VIEWS) for line in said}
            for view, (width, scheme) in VIEWS.items():
                page.set_viewport_size({'width': width, 'height': 900})
                page.emulate_media(color_scheme=scheme)
                for line in page.evaluate(LOOK):
                    found.setdefault(line, set()).add(view)
                if shots:
                    file = shots / view / f'{name.removesuffix(".html").replace("/", "-")}.png'
                    file.parent.mkdir(parents=True, exist_ok=True)
                    page.screenshot(path=file, full_page=True)
            for line, views in found.items():
                yield f'{name}: {line}' + ('' if len(views) == len(VIEWS) else f' ({", ".join(sorted(views))})')
        browser.close()


def main() -> int:
    """Print what is wrong; 0 if nothing is."""
    parser = argparse.ArgumentParser()
    parser.add_argument('handbook', type=Path)
    parser.add_argument('--links', action='store_true', help='look at links and descriptions alone')
    parser.add_argument('--only', default='', help='pages whose name holds this')
    parser.add_argument('--shots', type=Path, help='folder for a picture of each page in each view')
    args = parser.parse_args()
    if not list(args.handbook.glob('*.html')):
        parser.error(f'no pages in {args.handbook}')
    number = 0
    for line in broken_links(args.handbook):
        print(line, flush=True)
        number += 1
    for line in () if args.links else faults_of_pages(args.handbook, args.only, args.shots):
        print(line, flush=True)
        number += 1
    print(f'{number} faults')
    return 1 if number else 0


if __name__ == '__main__':
    sys.exit(main())
