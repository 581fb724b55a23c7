"""From a project to the pair of files that a worker loads.

The toolchain works in `.build/`, out of a worker's sight. What comes out is made smaller where `wasm-opt` is installed,
gets the manifest written into it, and is checked as a worker would check it; only then does the pair take the place of
the last one, manifest first, so that a worker that watches the folder finds both anew.

The manifest within the module (custom section `warren.manifest`) is for whoever has the module alone. A worker does not
load by it: what a plugin may do is the operator's to read, and to change, in a file.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from warren.manifests import Manifest, ManifestError, Policy, parse_manifest
from warren.plugins.checks import check_plugin
from warren.plugins.errors import LoadFailed
from warren.plugins.files import PluginFiles
from warren.plugins.wasm_binary import MAGIC, sized

from .errors import BuildFailed, KitError
from .project import MANIFEST_NAME, identifier, write_schema
from .toolchain import FILE_NAME, Recipe, expand, find_tools, read_toolchain

#: Where the pair goes that a worker loads, unless another folder is given.
BUILT: Final = "build"

#: Where compilers leave what they make on the way; hidden, so that it is not taken for plugins.
WORK: Final = ".build"

OPTIMIZER: Final = "wasm-opt"

#: What compilers use of WebAssembly beyond its first version. A stripped module does not say so, and wasm-opt takes
#: nothing that it was not told of. Rejected: `--all-features`, with which it may write what a worker refuses.
FEATURES: Final = tuple(
    f"--enable-{feature}"
    for feature in (
        "bulk-memory", "multivalue", "mutable-globals", "nontrapping-float-to-int", "reference-types", "sign-ext",
        "simd",
    )
)  # fmt: skip

MANIFEST_SECTION: Final = b"warren.manifest"


@dataclass(frozen=True, slots=True)
class Built:
    """What a build came to. `bytes_before` is the module as it came out; `note` says what could not be done."""

    manifest: Manifest
    files: PluginFiles
    bytes_before: int
    bytes_after: int
    optimized: bool
    note: str | None


def read_project_manifest(project: Path) -> tuple[Manifest, bytes]:
    """The project's manifest, and its text. Raises `KitError` without one, `ManifestError` for a wrong one."""
    path = project / MANIFEST_NAME
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        hint = "warren new NAME --lang LANGUAGE makes a project"
        raise KitError(f"{path}: there is no such file, so this is no project of a plugin", hint) from None
    return parse_manifest(text, str(path)), text


def build(project: Path, *, plugins: Path | None, debug: bool, policy: Policy) -> Built:
    """Build the project into `plugins`, or into its own `build/`. The tools' output goes where this process's goes.

    Raises `KitError`, `ManifestError`, or `LoadFailed` for a plugin that no worker would load; then the pair that was
    built last is left as it was.
    """
    project = project.resolve()
    manifest, text = read_project_manifest(project)
    toolchain = read_toolchain(project / FILE_NAME)
    recipe = toolchain.debug if debug else toolchain.release
    found = find_tools(toolchain, project)
    values = {"name": manifest.name, "identifier": identifier(manifest.name)}
    values["module"] = expand((recipe.module,), found, values, project)[0]
    module = project / values["module"]
    module.parent.mkdir(parents=True, exist_ok=True)
    module.unlink(missing_ok=True)  # what a compiler did not write anew is not taken for its work
    for command in recipe.commands:
        _run(expand(command, found, values, project), project, {**found.env, **recipe.env})
    if not module.is_file():
        raise KitError(f"the toolchain left no module at {module}", f"{FILE_NAME} says where it comes out, as `module`")
    write_schema(project)
    return _finished(module, recipe, manifest, text, plugins=plugins or project / BUILT, policy=policy)


def with_manifest(module: bytes, text: bytes) -> bytes:
    """A module, or a component, with the manifest in a custom section behind all others."""
    if not module.startswith(MAGIC):
        raise KitError("what the toolchain made is no WebAssembly")
    return module + b"\0" + sized(sized(MANIFEST_SECTION) + text)


def _finished(module: Path, recipe: Recipe, manifest: Manifest, text: bytes, *, plugins: Path, policy: Policy) -> Built:
    plugins.mkdir(parents=True, exist_ok=True)
    before = module.stat().st_size
    with tempfile.TemporaryDirectory(prefix=".warren-build-", dir=plugins) as hidden:
        made = PluginFiles.beside(Path(hidden, f"{manifest.name}.wasm"))
        optimized, note = _optimize(module, made.wasm, recipe)
        made.wasm.write_bytes(with_manifest(made.wasm.read_bytes(), text))
        made.manifest.write_bytes(text)
        files = PluginFiles.beside(plugins / made.wasm.name)
        try:
            check_plugin(made, policy)
        except (LoadFailed, ManifestError) as error:
            raise KitError(
                str(error).replace(str(made.wasm.with_suffix("")), str(files.wasm.with_suffix("")))
            ) from error
        after = made.wasm.stat().st_size
        made.manifest.replace(files.manifest)
        made.wasm.replace(files.wasm)
    return Built(manifest, files, before, after, optimized, note)


def _optimize(module: Path, target: Path, recipe: Recipe) -> tuple[bool, str | None]:
    """Write `target`, smaller if possible; whether it was, and if it should have been why not.

    An old wasm-opt does not know what a new compiler writes; its failure is no reason not to have the plugin.
    """
    shutil.copyfile(module, target)
    if not recipe.wasm_opt:
        return False, None
    if shutil.which(OPTIMIZER) is None:
        return False, f"{OPTIMIZER} would make it smaller; on Debian: apt-get install binaryen"
    command = [OPTIMIZER, *FEATURES, *recipe.wasm_opt, str(module), "-o", str(target)]
    ran = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)  # noqa: S603
    if ran.returncode == 0:
        return True, None
    shutil.copyfile(module, target)
    reason = (ran.stderr.strip() or f"exit code {ran.returncode}").splitlines()[0].removesuffix(", on ")
    return False, f"{OPTIMIZER} could not make it smaller, a newer one may: {reason}"


def _run(command: list[str], project: Path, env: Mapping[str, str]) -> None:
    try:
        ran = subprocess.run(  # noqa: S603 - see the package's docstring
            command, cwd=project, env={**os.environ, **env}, stdin=subprocess.DEVNULL, check=False
        )
    except OSError as error:
        raise KitError(f"{command[0]} cannot be run: {error.strerror}") from error
    if ran.returncode != 0:
        raise BuildFailed(command[0], ran.returncode)
