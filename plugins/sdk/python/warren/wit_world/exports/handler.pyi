# plugin.wit's interface `handler`; see ../imports/host.pyi.
class Request:
    action: str
    data: str
