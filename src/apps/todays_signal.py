"""``tactician signal`` as a script. It is not called signal.py, since Python would take that for its own module."""

import sys

from tactician.cli import main

if __name__ == "__main__":
    sys.exit(main(["signal", *sys.argv[1:]]))
