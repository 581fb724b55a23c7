from . import handler as handler
