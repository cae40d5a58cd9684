"""``python -m deidlib.cli``."""

from deidlib.cli.app import main

if __name__ == "__main__":
    main()
