"""A coverage-guided fuzzer for those who have hours (`pip install atheris`):

    python tests/fuzz_atheris.py weights -max_total_time=3600 [folder with more seeds]

Targets: weights, header, image, clips, journal. What follows goes to libFuzzer.
"""

import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=['videozoo_timm', 'PIL', 'safetensors']):
    from fuzzing import TARGETS


def main() -> None:
    if sys.argv[1:2] and sys.argv[1] in TARGETS:
        target = TARGETS[sys.argv.pop(1)]
    else:
        sys.exit(__doc__)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / 'seeds').mkdir()
        for k, seed in enumerate(target.seeds(folder)):
            (folder / 'seeds' / str(k)).write_bytes(seed)
        atheris.Setup([*sys.argv, str(folder / 'seeds')], lambda data: target(data, folder))
        atheris.Fuzz()


if __name__ == '__main__':
    main()
