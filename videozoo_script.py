"""The `videozoo` script: Ctrl-C while PyTorch is still being imported ends it as it does later on."""
import sys
from contextlib import suppress


def main() -> int:
    try:
        from videozoo_timm.cli import main
    except KeyboardInterrupt:
        with suppress(OSError):  # its reader may have ended too
            print('videozoo: interrupted', file=sys.stderr)
        return 130
    return main()
