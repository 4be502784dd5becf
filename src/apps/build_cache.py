"""``tactician build-cache`` as a script."""

import sys

from tactician.cli import main

if __name__ == "__main__":
    sys.exit(main(["build-cache", *sys.argv[1:]]))
