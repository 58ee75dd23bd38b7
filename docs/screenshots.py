"""The pictures of the page on the explorer: each view in Chromium, as a visitor sees it at first.

python docs/screenshots.py                              writes docs/static/explorer-*.png
python docs/screenshots.py --out shots --width 390 --dark    the same views on a phone at night, to look at
"""

import argparse
import io
import shutil
import threading
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

from videozoo_timm.explorer.page import VIEWS
from videozoo_timm.explorer.serving import Explorer, serving

STATIC = Path(__file__).parent / 'static'
TIMEOUT = 120_000  # milliseconds
FRAME = '8'  # in which the box hides something, and a patch is marked


def shoot(page, view, path, whole):
    """Open a view, wait until it shows something, and write the page, or its part down to the downloads."""
    before = page.locator('.film .number').first.inner_text()
    tab = page.get_by_role('tab', name=VIEWS[view])
    if not tab.is_visible():  # on a narrow page it is in a menu
        page.locator('#views .overflow-menu > button').click()
        tab = page.locator('#views .overflow-dropdown button', has_text=VIEWS[view])
    tab.click()
    if view != 'fill':
        page.wait_for_function('before => document.querySelector(".film .number")?.innerText !== before', arg=before)
    slider = page.locator('.film .place')
    if slider.count():
        slider.fill(FRAME)
        slider.blur()
    page.mouse.move(0, 0)
    page.wait_for_timeout(500)  # in which colors of buttons fade
    page.evaluate('scrollTo(0, 0)')
    last = page.locator('#python' if whole or not slider.count() else '#download-png')
    area = last.bounding_box() or page.locator('#film').bounding_box()
    clip = dict(x=0, y=0, width=page.viewport_size['width'], height=area['y'] + area['height'] + 16)
    shot = page.screenshot(clip=clip, full_page=True)
    with Image.open(io.BytesIO(shot)) as image:
        image.convert('RGB').save(path, optimize=True)
    print(f'{path}: {path.stat().st_size} bytes')


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--out', type=Path, default=STATIC)
    parser.add_argument('--width', type=int, default=1200)
    parser.add_argument('--dark', action='store_true')
    parser.add_argument('--whole', action='store_true', help='down to the lines of Python')
    parser.add_argument('--second', help='a model beside the first')
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    said, known = [], threading.Event()

    def ready(address):
        said.append(address)
        known.set()

    models = ('mae_shapes_none', args.second) if args.second else ()
    with serving(Explorer(models=models), ready) as server, sync_playwright() as playwright:
        thread = threading.Thread(target=server.run, kwargs=dict(sockets=[server.listening]))
        thread.start()
        known.wait()
        try:
            browser = playwright.chromium.launch(executable_path=shutil.which('chromium'), args=['--no-sandbox'])
            page = browser.new_page(
                viewport=dict(width=args.width, height=900),
                reduced_motion='reduce',  # nothing plays by itself
                color_scheme='dark' if args.dark else 'light',
            )
            page.set_default_timeout(TIMEOUT)
            page.goto(said[0])
            page.wait_for_selector('.film canvas.interactive')
            for view in VIEWS:
                if view != 'next' or server.config.app.page.models.names('generator'):
                    shoot(page, view, args.out / f'explorer-{view}.png', args.whole)
            browser.close()
        finally:
            server.should_exit = True
            thread.join()


if __name__ == '__main__':
    main()
