"""``tactician walk-forward`` as a script."""

import sys

from tactician.cli import main

if __name__ == "__main__":
    sys.exit(main(["walk-forward", *sys.argv[1:]]))
