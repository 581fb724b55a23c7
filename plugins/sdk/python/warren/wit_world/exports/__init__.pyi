# plugin.wit's exports; see ../imports/host.pyi.
from . import handler as handler
