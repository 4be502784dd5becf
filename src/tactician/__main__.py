"""``python -m tactician VERB …`` is the console script."""

import sys

from tactician.cli import main

sys.exit(main())
