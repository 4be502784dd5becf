"""One file per verb: its flags, and what only that verb needs."""
