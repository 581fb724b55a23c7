"""What a plugin raises for whoever asked."""


class Failure(Exception):
    """Why there is no result, in words for the caller. Not a bug: nothing is logged."""


class HostError(Failure):
    """Why the host did not do what it was asked for. `code` is for programs, such as "invalid_arguments"."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{message} ({code})")
        self.code = code
