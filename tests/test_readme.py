"""Every command of the README's tour runs as it stands, on models of the same names as the demo's."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.grown import grow, start
from tests.weights import save

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
TOUR = README[README.index("## A tour") : README.index("## How it works")]
COMMANDS = [
    line.split(" #")[0].strip()
    for block in re.findall(r"```console\n(.*?)```", TOUR, re.DOTALL)
    for line in block.splitlines()
    if line.strip() and "# needs the network" not in line
]
SNIPPET = "\n".join(re.findall(r"```python\n(.*?)```", TOUR, re.DOTALL))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home and a working folder as scripts/demo leaves them."""
    place = tmp_path_factory.mktemp("tour")
    layout = place / ".cache" / "modelkin" / "demo" / "chgnet-mhcnuggets-rxnfp"
    bert, chgnet, hla = (start(seed, layers=layers, width=48) for seed, layers in ((1, 3), (2, 4), (3, 2)))
    child = grow(hla, 5)
    models = {
        "rxnfp/bert_pretrained": bert,
        "rxnfp/bert_ft": grow(bert, 1),
        "rxnfp/bert_ft_10k_25s": grow(bert, 2),
        "chgnet/chgnet-0.3.0": chgnet,
        "chgnet/chgnet-r2scan": grow(chgnet, 3),
        "mhcnuggets/HLA-A02-01_BA": hla,
        "mhcnuggets/HLA-A02-03_BA": child,
        "mhcnuggets/HLA-A02-03_BA_to_HLAp": grow(child, 6),
    }
    for name, weights in models.items():
        save(layout / name, weights)
    _run(place, [sys.executable, "-m", "modelkin", "index", str(layout)])
    return place


def _run(place: Path, command: list[str]) -> str:
    environment = {**os.environ, "HOME": str(place), "PYTHONPATH": str(ROOT)}
    environment.pop("MODELKIN_GRAPH", None)
    done = subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout


def test_the_tours_commands_run_in_their_order(place: Path) -> None:
    """One test, for a newcomer types them one after the other: some ask about what an earlier one made."""
    assert len(COMMANDS) >= 15
    for command in COMMANDS:
        words = shlex.split(command.replace("~", str(place)).replace("/tmp/mine", str(place / "mine")))
        assert words[0] == ".venv/bin/modelkin"
        _run(place, [sys.executable, "-m", "modelkin", *words[1:]])


def test_the_tours_python_runs(place: Path) -> None:
    assert "rxnfp/bert_pretrained" in _run(place, [sys.executable, "-c", SNIPPET])


def test_the_two_commands_and_the_pages_exist() -> None:
    for script in ("scripts/demo", "scripts/test", ".ci/run", "scripts/bench"):
        assert os.access(ROOT / script, os.X_OK), script
    for page in re.findall(r"\]\(([\w./-]+\.md)\)", README):
        assert (ROOT / page).exists(), page
