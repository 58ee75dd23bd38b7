"""The `videozoo` script: Ctrl-C while PyTorch is still being imported ends it as it does later on."""
import sys


def main() -> int:
    try:
        from videozoo_timm.cli import main
    except KeyboardInterrupt:
        print('videozoo: interrupted', file=sys.stderr)
        return 130
    return main()
