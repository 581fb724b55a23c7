"""What a plugin raises for whoever asked."""


class Failure(Exception):
    """Why there is no result, in words for the caller. Not a bug: nothing is logged."""
