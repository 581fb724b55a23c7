# plugin.wit's interface `host`, as componentize-py gives it to Python; for editors. The build makes the real one.
from enum import Enum

class Level(Enum):
    DEBUG = 0
    INFO = 1
    WARN = 2
    ERROR = 3

def log(level: Level, message: str) -> None: ...
def call(function: str, arguments: str) -> str: ...
