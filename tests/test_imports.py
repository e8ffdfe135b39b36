"""Imports run one way: store <- crawl, store <- indexer, all of them <- modelkin; no circles between modules."""

from __future__ import annotations

import ast
from pathlib import Path

import networkx as nx

ROOT = Path(__file__).parent.parent
MAY_IMPORT = {
    "store": {"store"},
    "crawl": {"crawl", "store"},
    "indexer": {"indexer", "store"},
    "modelkin": {"modelkin", "crawl", "indexer", "store"},
}


def _modules() -> dict[str, Path]:
    found = {}
    for package in MAY_IMPORT:
        for path in (ROOT / package).rglob("*.py"):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def _imports(path: Path, top_level_only: bool) -> set[str]:
    tree = ast.parse(path.read_text())
    # What is imported for type checkers alone is no arrow at run time, but it is one in the reader's head.
    nodes = tree.body if top_level_only else list(ast.walk(tree))
    names: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: relative import"
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def test_no_package_imports_upward() -> None:
    for module, path in _modules().items():
        package = module.split(".")[0]
        for name in _imports(path, top_level_only=False):
            target = name.split(".")[0]
            assert target not in MAY_IMPORT or target in MAY_IMPORT[package], f"{module} imports {name}"
            assert target not in ("scripts", "tests", "benchmarks"), f"{module} imports {name}"


def test_no_circles() -> None:
    modules = _modules()
    graph: nx.DiGraph[str] = nx.DiGraph()
    for module, path in modules.items():
        names = _imports(path, top_level_only=True) & modules.keys() - {module}
        graph.add_edges_from((module, name) for name in names)
    assert list(nx.simple_cycles(graph)) == []


def test_torch_is_never_imported_at_the_top() -> None:
    for module, path in _modules().items():
        assert not any(name.split(".")[0] == "torch" for name in _imports(path, top_level_only=True)), module


def test_files_stay_under_300_lines() -> None:
    for folder in (*MAY_IMPORT, "scripts", "benchmarks"):
        for path in (ROOT / folder).rglob("*.py"):
            assert len(path.read_text().splitlines()) <= 300, path
