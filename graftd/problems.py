"""Troubles that a person can mend: what is wrong and what to do about it, without a traceback."""


class ProblemError(Exception):
    """Printed as `message` and `remedy`; the program then ends with status 1."""

    def __init__(self, message: str, remedy: str) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy
