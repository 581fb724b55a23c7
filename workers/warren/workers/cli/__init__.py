"""The command `warren`.

    app          every command's arguments and options       exit_codes   what the exit codes mean
    demo, worker, call, publish, listen, plugins, check       what each command does, loaded when it runs
    dead         the same for `warren dead`: its commands; dead_work, dead_view are what they do and show
    fleet        the same for `ps`, `top`, `inspect` and orders: fleet_work, top, fleet_view, survey, reports
    output, waterfall, result_view, logs                      how it is said, to people and as JSON
    failures     errors as a sentence, a hint and an exit code

Whatever a plugin or a message brings is shown with its control characters escaped, and never read as markup.
"""

from .app import main

__all__ = ["main"]
