"""The one exception that a user is meant to see."""


class UserError(Exception):
    """A mistake in what the user gave: a file, a key, a flag.

    The message is one sentence that names the file, row, key or flag and says what to do. Programs print it
    without a traceback and exit with code 2.
    """
