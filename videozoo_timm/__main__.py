"""The `videozoo` script, and `python -m videozoo_timm`."""
import sys


def main() -> int:
    try:
        from .cli import main  # here, as processes that decode import this module but need no command line
    except ModuleNotFoundError as error:
        if error.name != 'click':
            raise
        print("videozoo: the command line needs click: pip install 'videozoo-timm[video]'", file=sys.stderr)
        return 2
    return main()


if __name__ == '__main__':
    sys.exit(main())
