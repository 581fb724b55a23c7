"""Tiny distributions, installed into a folder as an installer does it: a module, and metadata with entry points."""

from __future__ import annotations

from pathlib import Path


def install(site: Path, name: str, code: str, **host_functions: str) -> None:
    """Install `name` 1.0 with one module, `<name>_code`, that offers these host functions."""
    (site / f"{name}_code.py").write_text(code)
    metadata = site / f"{name}-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    offered = "".join(f"{key} = {value}\n" for key, value in host_functions.items())
    (metadata / "entry_points.txt").write_text(f"[warren.host_functions]\n{offered}")
