"""Plugins and what is wanted of them, in one line each: `a 1.0.0: b ^1; c? >=1, <2`, the question mark for optional."""

from __future__ import annotations

from collections.abc import Iterable

from warren.manifests import Manifest, PluginDependency, VersionReq, parse_version


def wanted(text: str) -> tuple[str, VersionReq]:
    name, _, requirement = text.partition(" ")
    return name, VersionReq.parse(requirement)


def dependency(text: str) -> PluginDependency:
    name, requirement = wanted(text)
    return PluginDependency(name=name.removesuffix("?"), version_req=requirement, optional=name.endswith("?"))


def plugin(text: str) -> Manifest:
    head, _, tail = text.partition(": ")
    name, version = head.split(" ")
    needs = tuple(dependency(one) for one in tail.split("; ") if one)
    return Manifest(name=name, version=parse_version(version), dependencies=needs)


def plugins(texts: Iterable[str]) -> list[Manifest]:
    return [plugin(text) for text in texts]


def shown(manifests: Iterable[Manifest]) -> list[str]:
    return [f"{one.name} {one.version}" for one in manifests]
