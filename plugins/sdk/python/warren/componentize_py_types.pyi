# What componentize-py has in every component, as far as it is used here; for editors.
from typing import Any

class Err(Exception):
    value: Any
    def __init__(self, value: object) -> None: ...
