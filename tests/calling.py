"""Calling the command line, within this process and as one of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from typer.testing import CliRunner, Result

from modelkin.cli import app
from tests.small_graph import ENVIRONMENT

RUN = [sys.executable, "-m", "modelkin"]


def call(*words: str | Path, graph: Path | None = None, text: str | None = None) -> Result:
    options = ["--graph", str(graph)] if graph else []
    return CliRunner().invoke(app, [*map(str, words), *options], input=text)


def answer(*words: str | Path, graph: Path) -> Any:
    """The one JSON document of a command."""
    result = call(*words, "--json", graph=graph)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def rows(*words: str | Path, graph: Path) -> list[dict[str, Any]]:
    """The JSON lines of a command."""
    result = call(*words, "--json", graph=graph)
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


def shell(*words: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
    options.setdefault("env", ENVIRONMENT)
    return subprocess.run([*RUN, *map(str, words)], capture_output=True, text=True, timeout=60, **options)
