"""The plugin author's kit: the languages there are, a project from a template, and what builds it.

A language is a folder of data (`plugins/sdk/README.md`); nothing here knows one by name. Compilers are the author's own
and run unconfined, as `make` would run them: a project's `toolchain.toml` is code, and is trusted as such.
"""
