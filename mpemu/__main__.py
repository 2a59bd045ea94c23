"""``python -m mpemu``: the same as the ``mpemu`` command."""

from mpemu.cli import main

if __name__ == "__main__":
    main()
