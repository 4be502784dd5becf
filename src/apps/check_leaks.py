"""``tactician check-leaks`` as a script."""

import sys

from tactician.cli import main

if __name__ == "__main__":
    sys.exit(main(["check-leaks", *sys.argv[1:]]))
