"""The README: its recipes run, its table is the catalogue, its test command is CI's."""

import re
import shlex

import pytest
import torch
from conftest import CLIPS, REPOSITORY, save_published
from PIL import Image

from videozoo_timm.cli.list_models import markdown_table

README = (REPOSITORY / 'README.md').read_text()
FRAMEWORKS = README.split('## In the frameworks you already use')[1].split('\n## ')[0]  # tests/test_frameworks.py
SNIPPETS = re.findall(r'```python\n(.*?)```', README.replace(FRAMEWORKS, ''), flags=re.S)
COMMANDS = [
    line.split(' #')[0].strip()
    for block in re.findall(r'```bash\n(.*?)```', README, flags=re.S)
    for line in block.splitlines()
]

# Full-size weights are 2.5 GB a model, so the recipes run on models of the published names, inputs and classes whose
# blocks are narrow; tests/test_full_size.py runs the real ones.
SMALL_BLOCKS = """
from videozoo_timm.models import image_encoders, video_vit
video_vit.HUGE.update(embed_dim=64, num_heads=2)
image_encoders.BASE_14.update(embed_dim=48)
from videozoo_timm import catalogue
catalogue.GPT_SIZES['gimel'] = dict(depth=1, num_heads=2, embed_dim=32)
catalogue.VQGAN_SIZES['32x32_8192'].update(ch=32, num_res_blocks=1)
from videozoo_timm.cli import options
options.default_workers = lambda: 0  # sooner for a few short files
"""


@pytest.fixture
def zoo(hub, run, environment, tmp_path):
    """A loopback Hub with all models that the README names, small, and a folder that looks like the checkout."""
    import timm

    from videozoo_timm import catalogue
    from videozoo_timm.models import GPT, VQGAN, image_encoders, video_vit

    record, width = catalogue.find_generator('say_gimel'), dict(depth=1, num_heads=2, embed_dim=32)
    torch.manual_seed(0)
    for filename, key, model in (
        (record.gpt_filename, 'model_state_dict', GPT(**(record.gpt_args | width))),
        (record.vqgan_filename, 'state_dict', VQGAN(**record.vqgan_args, ch=32, num_res_blocks=1)),
    ):
        torch.save({key: model.state_dict()}, tmp_path / 'generator')
        hub.add(record.repo, filename, (tmp_path / 'generator').read_bytes())
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
            hub.add(record.repo, record.filename, save_published(tensors, tmp_path / record.filename))
    finally:
        video_vit.HUGE.update(huge)
        image_encoders.BASE_14.update(base)
    for name in ('docs', 'hubconf.py', 'videozoo_timm'):
        (tmp_path / name).symlink_to(REPOSITORY / name)
    (tmp_path / 'tests').mkdir()
    (tmp_path / 'tests' / 'clips').symlink_to(CLIPS)
    (tmp_path / 'VIDEOS').symlink_to(CLIPS / 'pans')
    for k in range(1000):
        (tmp_path / 'VAL' / f'{k:03}').mkdir(parents=True)
    (tmp_path / 'VAL' / '007' / 'a.jpg').symlink_to(REPOSITORY / 'docs' / 'clip.jpg')
    for split, number in (('train', 4), ('val', 1)):
        for seed in (1, 2):
            (tmp_path / 'IMAGES' / split / f'class {seed}').mkdir(parents=True)
            for k in range(number):
                noise = torch.randint(0, 100 * seed, (40, 48, 3), generator=torch.Generator().manual_seed(k))
                image = Image.fromarray(noise.byte().numpy())
                image.save(tmp_path / 'IMAGES' / split / f'class {seed}' / f'{split} {seed} {k}.png')
    (tmp_path / 'torch' / 'hub').mkdir(parents=True)
    (tmp_path / 'torch' / 'hub' / 'eminorhan_hvm-1_main').symlink_to(REPOSITORY)
    (tmp_path / 'torch' / 'hub' / 'trusted_list').write_text('eminorhan_hvm-1\n')
    return run


def test_every_python_recipe_runs(zoo):
    assert len(SNIPPETS) >= 9
    # GitHub, which is asked for the default branch and for forks, cannot be reached from a test.
    snippets = [
        re.sub(
            r"torch.hub.load\('eminorhan/hvm-1', (.*?)\)",
            r"torch.hub.load('eminorhan/hvm-1:main', \1, skip_validation=True)",
            s,
        )
        for s in SNIPPETS
    ]
    zoo(
        code=SMALL_BLOCKS
        + f"""
for snippet in {snippets!r}:
    print(snippet, flush=True)
    exec(compile(snippet, snippet, 'exec'), dict())
"""
    )


def test_every_command_runs(zoo, tmp_path):
    # Minutes for a test: attention of 1400 pixels, a plain implementation of 32 blocks.
    quicker = {'--img-size 1400': '--img-size 140', 'bench --model vit_hvm1_none': 'bench'}
    commands = [c for c in COMMANDS if c.startswith('videozoo ')]
    for slow, quick in quicker.items():
        assert sum(slow in c for c in commands) == 1
        commands = [c.replace(slow, quick) for c in commands]
    assert len(commands) >= 12
    commands = [c.replace('evaluate VAL ', 'evaluate VAL --allow-empty ') for c in commands]  # one image in all
    zoo(
        code=SMALL_BLOCKS
        + f"""
from videozoo_timm.cli import main
for arguments in {[shlex.split(c)[1:] for c in commands]!r}:
    assert main(arguments) == 0, arguments
"""
    )
    assert (tmp_path / 'mine.npz').exists() and (tmp_path / 'out.safetensors').exists()
    assert (tmp_path / 'samples.png').exists() and (tmp_path / 'completed.png').exists()
    assert (tmp_path / 'images.npz').exists() and (tmp_path / 'probe' / 'probes.json').exists()
    for folder, number in (('completions', 4), ('published', 4), ('pictures', 3), ('attention', 14), ('pca', 4)):
        assert len(list((tmp_path / folder).glob('*.jpg'))) == number
    assert (tmp_path / 'evaluation' / 'confusion.png').exists()
    assert (tmp_path / 'to-upload' / 'config.json').exists()


def test_the_table_is_the_catalogue():
    table = re.search(r'<!-- models: videozoo list --markdown -->\n(.*?)\n<!-- /models -->', README, flags=re.S)[1]
    assert table == markdown_table()


def test_ci_runs_the_test_command():
    assert "pip install -e '.[test]' && pytest" in COMMANDS
    assert "\n(pip install -e '.[test]' && pytest)  #" in (REPOSITORY / '.ci' / 'run').read_text()


def test_what_the_readme_promises_is_there():
    for path in re.findall(r'\]\((?!http|#)([^)]+)\)', README):
        assert (REPOSITORY / path).exists(), path
    first = next(c for c in COMMANDS if 'videozoo complete' in c)
    assert first == "pip install -e '.[all]' && videozoo complete tests/clips/pans drawn:4 --out completions"
    assert "grep -m1 'videozoo complete' README.md" in (REPOSITORY / '.ci' / 'run').read_text()
