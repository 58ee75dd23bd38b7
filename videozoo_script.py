"""The `videozoo` script: what happens while PyTorch is still being imported ends it as it does later on."""
import os
import sys
import traceback
from contextlib import suppress


def main() -> int:
    try:
        from videozoo_timm.cli import main
    except KeyboardInterrupt:
        _complain('interrupted')
        return 130
    except Exception as error:  # a library is broken, or does not fit the others
        if '--debug' in sys.argv or os.environ.get('VIDEOZOO_DEBUG', '0') not in ('', '0'):
            traceback.print_exc()
        _complain(f'{" ".join(f"{type(error).__name__}: {error}".split())} (--debug shows the traceback)')
        return 2
    return main()


def _complain(text: str) -> None:
    with suppress(OSError):  # its reader may have ended too
        print(f'videozoo: {text}', file=sys.stderr)
