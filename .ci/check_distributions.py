"""Checks what the sdist and the wheel of a folder hold: python .ci/check_distributions.py FOLDER [--tag v0.2.0]."""

import argparse
import sys
import tarfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ('.ci', '.github', 'benchmarks', 'docs', 'examples', 'tests', 'videozoo_timm')
FILES = ('hubconf.py', '.pre-commit-config.yaml', 'LICENSE', 'pyproject.toml', 'requirements-tested.txt', 'ruff.toml')
JUNK = ('__pycache__', '.pyc', '.egg-info/', '.ipynb_checkpoints', 'build/')


def expected_in_sdist() -> set[str]:
    """What the tests need: the files of these folders and those beside them."""
    files = [path for folder in FOLDERS for path in (ROOT / folder).rglob('*')]
    files += [*map(ROOT.joinpath, FILES), *ROOT.glob('*.md'), *ROOT.glob('*.cff'), ROOT / 'setup.cfg']
    names = {path.relative_to(ROOT).as_posix() for path in files if path.is_file()}
    return {name for name in names if not any(junk in name for junk in JUNK)}


def main() -> int:
    """Print what is wrong; 0 if nothing is."""
    parser = argparse.ArgumentParser()
    parser.add_argument('folder', type=Path)
    parser.add_argument('--tag', help='must be that of the version')
    args = parser.parse_args()
    (sdist,), (wheel,) = args.folder.glob('*.tar.gz'), args.folder.glob('*.whl')
    version = sdist.name.removesuffix('.tar.gz').rsplit('-', 1)[1]
    with tarfile.open(sdist) as archive:
        source = {name.partition('/')[2] for name in archive.getnames()}
    installed = set(zipfile.ZipFile(wheel).namelist())
    package = {name for name in expected_in_sdist() if name.startswith('videozoo_timm/')}
    own = {name for name in installed if not name.startswith(f'videozoo_timm-{version}.dist-info/')}
    wrong = [f'not in {sdist.name}: {name}' for name in sorted(expected_in_sdist() - source)]
    wrong += [f'not in {wheel.name}: {name}' for name in sorted(package - installed)]
    wrong += [f'in {wheel.name}, but not of the package: {name}' for name in sorted(own - package)]
    if args.tag and args.tag != f'v{version}':
        wrong.append(f'the tag {args.tag} is not that of version {version}')
    print('\n'.join(wrong) or f'{sdist.name}: {len(source)} files, {wheel.name}: {len(installed)} files')
    return 1 if wrong else 0


if __name__ == '__main__':
    sys.exit(main())
