"""`python -m videozoo_timm`."""
import sys


def main() -> int:
    from .cli import main  # here, as processes that decode import this module but need no command line
    return main()


if __name__ == '__main__':
    sys.exit(main())
