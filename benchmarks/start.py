"""How soon the command line answers, against the import of timm, in one run.

    python benchmarks/start.py [--runs 7]

Every row is a process of its own, and the rows take turns, so that what else the machine does falls on all of them
alike. Memory is the peak of the process. The package is compiled first, as pip compiles what it installs: where Python
is told to write no bytecode, a checkout would be compiled in each process and timm in none. Ends with 1 if a command
takes more than a tenth of the time of `import timm` or more than 60 MB, or if `import videozoo_timm` adds more than 3%
to it.
"""

import argparse
import compileall
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
SCRIPT = Path(sys.executable).with_name('videozoo')
VIDEOZOO = [str(SCRIPT)] if SCRIPT.exists() else [sys.executable, '-m', 'videozoo_timm']
COMMANDS = ('--version', '--help', 'embed --help', 'list', 'info vit_hvm1_none', 'complete drawn:1 --mask-tipe center')
MOST_TIME, MOST_MEMORY, MOST_ADDED = 0.1, 60e6, 0.03
IMPORTS = """
import json, time
start = time.perf_counter(); import timm
middle = time.perf_counter(); import videozoo_timm
print(json.dumps((time.perf_counter() - middle) / (middle - start)))
"""


def run(command: list[str], code: int = 0) -> tuple[float, float, str]:
    """Seconds, peak memory in bytes and standard output of a process, which is to end with this exit code."""
    env = dict(os.environ, PYTHONPATH=str(REPOSITORY))
    start = time.perf_counter()
    process = subprocess.Popen(command, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != code:
        sys.exit(f'{" ".join(command)} ended with {process.returncode}')
    return seconds, 1024 * usage.ru_maxrss, output


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--runs', type=int, default=7, help='runs of each row, of which the median counts')
    args = parser.parse_args()
    rows = {'import timm': ([sys.executable, '-c', 'import timm'], 0)}
    rows |= {f'videozoo {words}': ([*VIDEOZOO, *words.split()], 2 if 'tipe' in words else 0) for words in COMMANDS}
    results: dict[str, list[tuple[float, float, str]]] = {name: [] for name in rows}
    compileall.compile_dir(REPOSITORY / 'videozoo_timm', quiet=1)
    added = []
    for _ in range(args.runs):
        for name, (command, code) in rows.items():
            results[name].append(run(command, code))
        added.append(json.loads(run([sys.executable, '-c', IMPORTS])[2]))
    medians = {
        name: tuple(statistics.median(column) for column in list(zip(*runs, strict=True))[:2])
        for name, runs in results.items()
    }
    whole, missed = medians['import timm'][0], []
    print('| process | time | of `import timm` | memory |\n|---|---|---|---|')
    for name, (seconds, memory) in medians.items():
        print(f'| `{name}` | {seconds:.2f} s | {seconds / whole:.3f} | {memory / 1e6:.0f} MB |')
        if name != 'import timm' and (seconds > MOST_TIME * whole or memory > MOST_MEMORY):
            missed.append(name)
    extra = statistics.median(added)
    print(f'\n`import videozoo_timm` adds {extra:.1%} to `import timm`')
    if extra > MOST_ADDED:
        missed.append('import videozoo_timm')
    if missed:
        print(f'too slow or too large: {", ".join(missed)}', file=sys.stderr)
    return 1 if missed else 0


if __name__ == '__main__':
    sys.exit(main())
