"""The exceptions that a user is meant to see. Each is one sentence, with the exit code that a program ends with."""


class UserError(Exception):
    """A mistake in what the user gave: a file, a key, a flag.

    The message is one sentence that names the file, row, key or flag and says what to do. Programs print it
    without a traceback and exit with `exit_code`.
    """

    exit_code = 2


class Refused(UserError):
    """Nothing is wrong with what the user typed, but going on would not be safe. Nothing was sent."""

    exit_code = 3


class NotNow(Refused):
    """It is too early or too late. A timer that calls too often meets it every day, so it is no news."""


class Halted(UserError):
    """Trading is halted until a person resumes it."""

    exit_code = 4
