"""The `videozoo` script, and `python -m videozoo_timm`."""

import os
import sys
import traceback
from contextlib import suppress


def main() -> int:
    """Run the command line and return its exit code, also if it is interrupted while it is loaded."""
    try:
        from .cli import main  # here, so that what happens meanwhile ends the script as it does later on
    except KeyboardInterrupt:
        _complain('interrupted')
        return 130
    except Exception as error:  # a library is missing or broken, or does not fit the others
        if '--debug' in sys.argv or os.environ.get('VIDEOZOO_DEBUG', '0') not in ('', '0'):
            from .text import printable

            print(printable(traceback.format_exc(), lines=True), file=sys.stderr)
        if isinstance(error, ModuleNotFoundError) and error.name == 'click':
            _complain("the command line needs click: pip install 'videozoo-timm[video]'")
        else:
            _complain(f'{" ".join(f"{type(error).__name__}: {error}".split())} (--debug shows the traceback)')
        return 2
    return main()


def _complain(text: str) -> None:
    with suppress(OSError):  # its reader may have ended too
        print(f'videozoo: {text}', file=sys.stderr)


if __name__ == '__main__':
    sys.exit(main())
