"""The face: the Python client, the command line and the nightly run.

from modelkin import ModelGraph

with ModelGraph.open("graph") as graph:
    graph.ancestors("org/name")
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from modelkin.graph import ModelGraph
    from modelkin.naming import UnknownModelError
    from store.errors import ModelkinError, RetryError, SkipError, StopError

__all__ = [
    "ModelGraph",
    "ModelkinError",
    "RetryError",
    "SkipError",
    "StopError",
    "UnknownModelError",
    "__version__",
]

__version__: str

_HOMES = {
    "ModelGraph": "modelkin.graph",
    "UnknownModelError": "modelkin.naming",
    "ModelkinError": "store.errors",
    "RetryError": "store.errors",
    "SkipError": "store.errors",
    "StopError": "store.errors",
}


def __getattr__(name: str) -> Any:
    """Import on first use: the command line answers `--help` without loading DuckDB."""
    if name == "__version__":
        from importlib.metadata import PackageNotFoundError, version

        try:
            found: Any = version("modelkin")
        except PackageNotFoundError:
            # Run from a checkout that was not installed.
            found = "0+source"
    elif name in _HOMES:
        from importlib import import_module

        found = getattr(import_module(_HOMES[name]), name)
    else:
        raise AttributeError(f"module 'modelkin' has no attribute {name!r}")
    globals()[name] = found
    return found
