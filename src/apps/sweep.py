"""``tactician sweep`` as a script."""

import sys

from tactician.cli import main

if __name__ == "__main__":
    sys.exit(main(["sweep", *sys.argv[1:]]))
