"""How fast the explorer answers: until its page can be used, a new mask, another patch.

    pip install playwright
    python benchmarks/explorer.py --chromium /usr/bin/chromium

The server and the browser share this machine. Seconds, medians; of the page from when its address is known, without the
imports; of the others from when the mouse is released until the new pictures are on the screen. `views` are the answers
without a browser: what is computed, and written as pictures for the player.
"""

import argparse
import statistics
import threading
import time
from types import SimpleNamespace

from videozoo_timm.explorer.answers import NONE, Answers, Asked
from videozoo_timm.explorer.choices import FIRST
from videozoo_timm.explorer.film import film_of
from videozoo_timm.explorer.serving import Explorer, serving

DRAWN = "() => Number(document.querySelector('.film').dataset.turn || 0)"


def medians_of(function, repeats):
    """Seconds of the clock and of computing."""
    rows = []
    for _ in range(repeats):
        begun = time.perf_counter(), time.process_time()
        function()
        rows.append((time.perf_counter() - begun[0], time.process_time() - begun[1]))
    return [statistics.median(column) for column in zip(*rows, strict=True)]


def time_views(page, repeats):
    """Seconds of each view, without a browser."""
    session, name = page.visitors.get('benchmark'), page.first[0]
    asked = Asked(FIRST, 1.17, name, NONE, 'box', 0.9, '', 0, False, 1.0, 0, 'mse', 8, 1, 0)
    answers, loaded = Answers(page.models), {name: page.models.get(name)}
    number = iter(range(10**6))

    def answer(view):
        session.view = view
        k = next(number)
        session.box = (4, 12, 14 * (k % 4), 14 * (k % 4 + 4), 28, 84)
        session.patch = (k % 8, k // 8 % 8, 3)
        notes = answers.show(session, asked, loaded)
        assert not notes, notes
        for row in film_of(session.shown, page.sheets)['rows']:
            for panel in row['panels']:
                page.sheets.png(panel['src'], 0)

    for view in ('fill', 'look', 'compare', 'surprise'):
        answer(view)  # what is kept from then on
        clock, computing = medians_of(lambda view=view: answer(view), repeats)
        print(f'view {view:10} {clock:.3f} s, {computing:.3f} s of computing', flush=True)


def time_page(address, chromium, repeats):
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=['--no-sandbox'])
        page = browser.new_page(viewport=dict(width=1280, height=900))
        begun = time.perf_counter()
        page.goto(address)
        page.wait_for_selector('.film canvas.interactive')
        print(f'page usable     {time.perf_counter() - begun:.3f} s')
        page.wait_for_timeout(1000)

        def drag(k):
            area = page.locator('.film canvas.interactive').bounding_box()
            x, y, side = area['x'], area['y'], area['width']
            page.mouse.move(x + side * 0.1, y + side * 0.1)
            page.mouse.down()
            page.mouse.move(x + side * (0.4 + 0.125 * (k % 4)), y + side * 0.6, steps=3)
            return wait(page.mouse.up)

        def click(k):
            area = page.locator('.film canvas.interactive').bounding_box()
            page.mouse.move(area['x'] + area['width'] * (k % 8 + 0.5) / 8, area['y'] + area['height'] / 3)
            return wait(page.mouse.down)

        def wait(act):
            turn = page.evaluate(DRAWN)
            begun = time.perf_counter()
            act()
            page.wait_for_function(f'({DRAWN})() > {turn}', polling=5)
            seconds = time.perf_counter() - begun
            page.mouse.up()
            return seconds

        print(f'a new mask      {statistics.median(drag(k) for k in range(repeats)):.3f} s')
        page.get_by_role('tab', name='Compare places').click()
        page.wait_for_selector('.film figcaption:has-text("similarity")')
        page.wait_for_timeout(500)
        print(f'another patch   {statistics.median(click(k) for k in range(repeats)):.3f} s')
        browser.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--chromium', help='path of the browser; without it only the views are timed')
    parser.add_argument('--repeats', type=int, default=9)
    args = parser.parse_args()
    said = SimpleNamespace(address=None, known=threading.Event())

    def ready(address):
        said.address = address
        said.known.set()

    with serving(Explorer(), ready) as server:
        time_views(server.config.app.page, args.repeats)
        if args.chromium:
            thread = threading.Thread(target=lambda: server.run(sockets=[server.listening]))
            thread.start()
            said.known.wait()
            try:
                time_page(said.address, args.chromium, args.repeats)
            finally:
                server.should_exit = True
                thread.join()


if __name__ == '__main__':
    main()
