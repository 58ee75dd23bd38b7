"""The README and the handbook: what they show runs, what they link to is there.

Each page's `python` and `bash` blocks run in order, in one process and a folder that looks like a checkout: snippets
see the names of those before them. A block that cannot run here says why in the comment before it,
`<!-- not run: REASON -->`. The blocks of docs/frameworks.md run in tests/test_frameworks.py.
"""

import re
import subprocess
from pathlib import Path
from urllib.parse import unquote

import pytest
import torch
from conftest import CLIPS, hub_environment, save_published
from documents import DOCS, PAGES, README, REPOSITORY, blocks_of, links_of, name_of
from forked_python import run_forked
from loopback_hub import LoopbackHub
from PIL import Image

import videozoo_timm

RUN = [page for page in PAGES if page != DOCS / 'frameworks.md']
HANDBOOK = 'https://eminorhan.github.io/videozoo-timm/'
LONG = ('finetuning', 'generating', 'generating_videos', 'comparing')  # pages that take 15 seconds or more
LANGUAGES = {'python', 'bash', 'text', 'bibtex', 'toml'}  # of these, the first two run

# Full-size weights are 2.5 GB a model, so the pages run on models of the published names, inputs and classes whose
# blocks are narrow; tests/test_full_size.py runs the real ones.
NARROW = """
from videozoo_timm.models import image_encoders, video_vit
video_vit.HUGE.update(embed_dim=64, num_heads=2)
image_encoders.BASE_14.update(embed_dim=48)
from videozoo_timm import catalogue
catalogue.GPT_SIZES['gimel'] = dict(depth=1, num_heads=2, embed_dim=32)
catalogue.VQGAN_SIZES['32x32_8192'].update(ch=32, num_res_blocks=1)
from videozoo_timm.cli import options
options.default_workers = lambda: 0  # sooner for a few short files
"""
EACH_IN_TURN = """
import sys
from videozoo_timm.cli import main
names = {{}}
for line, python, commands in {blocks!r}:
    print(f'{{line}}:', file=sys.stderr, flush=True)
    if python:
        exec(compile(python, str(line), 'exec'), names)
    for command in commands:
        assert main(command[1:]) == 0, command
"""
# What would take minutes: attention in images of 1400 pixels, a plain implementation of 32 blocks, a thousand classes.
QUICKER = {
    '--img-size 1400': '--img-size 140',
    'bench --model vit_hvm1_none': 'bench',
    'evaluate VAL ': 'evaluate VAL --allow-empty ',
}
# GitHub, which is asked for the default branch and for forks, cannot be reached from a test.
HUB_LOAD = (
    r"torch.hub.load\('eminorhan/hvm-1', (.*?)\)",
    r"torch.hub.load('eminorhan/hvm-1:main', \1, skip_validation=True)",
)


@pytest.fixture(scope='module')
def zoo(tmp_path_factory):
    """Environment with a loopback Hub that has all models that the pages name, narrow, and one cache for all pages."""
    import timm

    from videozoo_timm import catalogue
    from videozoo_timm.models import GPT, VQGAN, image_encoders, video_vit

    folder, hub = tmp_path_factory.mktemp('zoo'), LoopbackHub()
    record, width = catalogue.find_generator('say_gimel'), dict(depth=1, num_heads=2, embed_dim=32)
    torch.manual_seed(0)
    for filename, key, model in (
        (record.gpt_filename, 'model_state_dict', GPT(**(record.gpt_args | width))),
        (record.vqgan_filename, 'state_dict', VQGAN(**record.vqgan_args, ch=32, num_res_blocks=1)),
    ):
        torch.save({key: model.state_dict()}, folder / 'generator')
        hub.add(record.repo, filename, (folder / 'generator').read_bytes())
    huge, base = dict(video_vit.HUGE), dict(image_encoders.BASE_14)
    video_vit.HUGE.update(embed_dim=64, num_heads=2)
    image_encoders.BASE_14.update(embed_dim=48)
    try:
        for name in (
            'mae_hvm1_none',
            'mae_hvm1@448_none',
            'mae_say_none',
            'vit_hvm1_imagenet-2pt',
            'vit_hvm1_ssv2-50shot',
            'dino_say_vitb14',
        ):
            record = catalogue.find(name)
            torch.manual_seed(0)
            tensors = timm.create_model(record.timm_name).state_dict()
            hub.add(record.repo, record.filename, save_published(tensors, folder / record.filename))
    finally:
        video_vit.HUGE.update(huge)
        image_encoders.BASE_14.update(base)
    (folder / 'torch' / 'hub').mkdir(parents=True)
    (folder / 'torch' / 'hub' / 'eminorhan_hvm-1_main').symlink_to(REPOSITORY)
    (folder / 'torch' / 'hub' / 'trusted_list').write_text('eminorhan_hvm-1\n')
    with hub:
        yield hub_environment(hub, folder)


@pytest.fixture
def checkout(zoo, tmp_path):
    """A folder that looks like a checkout, with a reader's own VIDEOS, IMAGES, VAL and checkpoint in it."""
    for name in ('docs', 'examples', 'hubconf.py', 'videozoo_timm'):
        (tmp_path / name).symlink_to(REPOSITORY / name)
    (tmp_path / 'tests').mkdir()
    (tmp_path / 'tests' / 'clips').symlink_to(CLIPS)
    (tmp_path / 'VIDEOS').mkdir()
    (tmp_path / 'VIDEOS' / 'cat.mp4').symlink_to(CLIPS / 'pans' / 'things' / 'cat.mp4')
    (tmp_path / 'hvm1_none.pth').symlink_to(Path(zoo['HF_HOME']).with_name('hvm1_none.pth'))
    for k in range(1000):
        (tmp_path / 'VAL' / f'{k:03}').mkdir(parents=True)
    (tmp_path / 'VAL' / '007' / 'a.jpg').symlink_to(DOCS / 'static' / 'clip.jpg')
    for split, number in (('train', 4), ('val', 1)):
        for seed in (1, 2):
            (tmp_path / 'IMAGES' / split / f'class {seed}').mkdir(parents=True)
            for k in range(number):
                noise = torch.randint(0, 100 * seed, (40, 48, 3), generator=torch.Generator().manual_seed(k))
                image = Image.fromarray(noise.byte().numpy())
                image.save(tmp_path / 'IMAGES' / split / f'class {seed}' / f'{split} {seed} {k}.png')
    return tmp_path


def runs(page):
    return [block for block in blocks_of(page.read_text()) if block.reason is None]


def marked(page):
    return pytest.param(page, marks=pytest.mark.slow if page.stem in LONG else ())


@pytest.mark.parametrize(
    'page', [marked(p) for p in RUN if any(b.language in ('python', 'bash') for b in runs(p))], ids=name_of
)
def test_what_a_page_shows_runs(page, zoo, checkout):
    blocks = []
    for block in runs(page):
        text = re.sub(*HUB_LOAD, block.text)
        for slow, quick in QUICKER.items():
            text = text.replace(slow, quick)
        block = block._replace(text=text)
        commands = block.commands if block.language == 'bash' else []
        told = f'line {block.line}: mark what cannot run, <!-- not run: REASON -->'
        assert all(command[0] == 'videozoo' for command in commands), told
        blocks.append((f'{page.name}, line {block.line}', text if block.language == 'python' else None, commands))
    done = run_forked([], NARROW + EACH_IN_TURN.format(blocks=blocks), zoo, checkout)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize('page', PAGES, ids=name_of)
def test_a_page(page):
    text = page.read_text()
    for block in blocks_of(text):
        plain = block.language.startswith('{')  # a directive of MyST
        assert plain or block.language in LANGUAGES, f'line {block.line}: {block.language!r} would not be run'
        assert block.reason is None or block.reason.strip(), f'line {block.line} does not say why it is not run'
    for link in links_of(text):
        path, _, anchor = unquote(link.removeprefix(HANDBOOK)).partition('#')
        if link.startswith(HANDBOOK):
            target = DOCS / (path.removesuffix('.html') + '.md' if path else 'index.md')
        elif link.startswith(('https:', 'mailto:')):
            here = re.fullmatch(
                r'https://(?:raw\.githubuser\w+|github)\.com/[\w-]+/[\w-]+/(?:blob/)?v([\d.]+)/(.+)', link
            )
            if here:  # a picture or a file at the tag, for a package index
                assert here[1] == videozoo_timm.__version__ and (REPOSITORY / here[2]).exists(), link
            continue
        else:
            target = page.parent / path if path else page
        generated = target.resolve().is_relative_to(DOCS / 'reference') or target.name == 'models.md'
        assert target.exists() or generated, link
        if anchor and not generated and target.suffix == '.md':
            assert anchor in anchors_of(target.read_text()), link


def anchors_of(text):
    headings = re.findall(r'^#+ (.+)$', re.sub(r'^```.*?^```$', '', text, flags=re.S | re.M), flags=re.M)
    return {re.sub(r'[^\w\- ]', '', heading.lower()).replace(' ', '-') for heading in headings}


def test_the_readme_is_one_screen_and_a_bit():
    assert len(README.read_text().splitlines()) <= 200


def test_the_readme_reads_on_a_package_index():
    """Where nothing lies beside it: no link is relative, and each that is named is defined."""
    text = README.read_text()
    assert all(link.startswith('https://') for link in links_of(text))
    prose = re.sub(r'`[^`\n]*`', '', re.sub(r'^```.*?^```$', '', text, flags=re.S | re.M))
    named = re.findall(r'\[([^][]+)\](?:\[([^][]+)\])?(?![(:])', prose)
    defined = re.findall(r'^\[(.+)\]: ', prose, flags=re.M)
    assert {(label or words).lower() for words, label in named} == set(defined)


def test_every_page_is_found():
    """From the index, by its tables of contents."""
    index = (DOCS / 'index.md').read_text()
    for page in PAGES:
        if page not in (README, DOCS / 'index.md') and page.parent.name != 'tutorials':
            assert re.search(rf'^{page.relative_to(DOCS).with_suffix("").as_posix()}$', index, flags=re.M), page


def test_ci_runs_the_commands_of_the_readme():
    commands = [line for block in blocks_of(README.read_text()) for line in block.text.splitlines()]
    first = next(line for line in commands if 'videozoo complete' in line)
    assert first == "pip install -e '.[all]' && videozoo complete tests/clips/pans drawn:4 --out completions"
    assert "pip install -e '.[test]' && pytest" in commands
    ci = (REPOSITORY / '.ci' / 'run').read_text()
    assert "pip install -e '.[docs]' && sphinx-build -W -b html docs build/handbook" in commands
    found = re.search(r'^bash -euc "\$\((grep .*)\)"$', ci, flags=re.M)[1]  # as it finds the first command
    assert subprocess.run(found, shell=True, cwd=REPOSITORY, capture_output=True, text=True).stdout.strip() == first
    assert "\n(pip install -e '.[test]' && pytest)  #" in ci
