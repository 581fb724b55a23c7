"""`warren approve`: show what a version of a plugin would get that its predecessor has not, and let it have that."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path

from rich.text import Text

from warren.manifests import NO_POWERS, Powers, widening
from warren.plugins.approvals import Approval
from warren.plugins.checks import CheckedPlugin, check_plugin
from warren.plugins.upgrades import Review, Upgrades

from ..text import printable
from .exit_codes import ExitCode
from .failures import WrongUsage
from .json_data import print_json
from .output import print_note, stderr, stdout
from .plugins_show import chosen, reviewed
from .policy import chosen_policy


def run(directory: Path, policy_file: Path, plugin: str, version: str, *, yes: bool, as_json: bool) -> ExitCode:
    """Approve the files that are there now, and no others, once the user has confirmed it."""
    policy = chosen_policy(policy_file)
    approvals = Upgrades(policy).approvals
    if approvals is None:
        raise WrongUsage(f"{policy_file} lets every upgrade in: upgrades = 'allow'", "there is nothing to approve")
    files = chosen(directory, plugin, f"={version}")
    checked = check_plugin(files, policy)
    review = reviewed(directory, checked, policy)
    if not as_json:
        (stdout() if yes else stderr()).print(_difference(checked, review), soft_wrap=True)
    if not yes and not _confirmed(checked):
        print_note("nothing was approved")
        return ExitCode.FAILED
    path = approvals.add(
        Approval(
            plugin=plugin,
            version=str(checked.manifest.version),
            digest=checked.digest.hex(),
            powers=Powers.of(checked.grant),
        )
    )
    if as_json:
        print_json(
            {
                "plugin": plugin,
                "version": str(checked.manifest.version),
                "digest": checked.digest.hex(),
                "predecessor": review.predecessor,
                "more": [asdict(one) for one in review.more],
                "approval": str(path),
            }
        )
    else:
        stdout().print(_done(checked, path), soft_wrap=True)
    return ExitCode.OK


def _difference(checked: CheckedPlugin, review: Review) -> Text:
    """What is more than the predecessor has; without one, all that it would get."""
    name = f"{checked.manifest.name} {checked.manifest.version}"
    if review.predecessor is None:
        words, more = "has no predecessor that is known here, and would get", _everything(checked)
    elif review.more:
        words, more = f"would get what {review.predecessor} has not", review.more
    else:
        other = ", but its files are not those that were approved" if review.swapped else ""
        return Text.assemble((name, "bold"), f" gets nothing that {review.predecessor} has not{other}")
    return Text.assemble((name, "bold"), f" {words}:", *(f"\n  {printable(str(one))}" for one in more))


def _everything(checked: CheckedPlugin) -> tuple[object, ...]:
    powers = Powers.of(checked.grant)
    without_limits = powers.model_copy(update={"limits": NO_POWERS.limits})
    limits = (f"{limit} {value:,.16g}" for limit, value in asdict(powers.limits).items())
    return (*widening(NO_POWERS, without_limits), *limits)


def _confirmed(checked: CheckedPlugin) -> bool:
    if not sys.stdin.isatty():
        raise WrongUsage("somebody has to look at that, and there is no terminal to ask at", "--yes does not ask")
    try:
        answer = stderr().input(Text(f"Approve {checked.manifest.name} {checked.manifest.version}? [y/N] "))
    except EOFError:
        return False
    return answer.strip().lower() in {"y", "yes"}


def _done(checked: CheckedPlugin, path: Path) -> Text:
    name = f"{checked.manifest.name} {checked.manifest.version}"
    return Text.assemble(
        ("approved ", "green"),
        (name, "bold"),
        f" as its files are now, in {printable(str(path))}\n"
        f"  workers that follow their folder take it within ten seconds; `warren reload {name}` has the others do so",
    )
