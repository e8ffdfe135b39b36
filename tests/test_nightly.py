"""A night as a process: stopped while it waits, scraped, told as JSON, and with tokens that nobody sees again."""

from __future__ import annotations

import base64
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import duckdb
import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from modelkin.cli import app
from scripts.hub_server import HubServer
from tests.calling import RUN, call, rows
from tests.served import serving
from tests.small_graph import ENVIRONMENT, write_weights

DOCS = Path(__file__).parent.parent / "docs" / "nightly.md"
pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    parent = write_weights(folder / "org/m0", 1)
    for at in range(1, 6):
        write_weights(folder / f"org/m{at}", at + 1, parent)
    for at in range(6):
        os.utime(folder / f"org/m{at}/model.safetensors", (10**9 + at, 10**9 + at))
    return folder


def test_sigterm_ends_a_night_that_waits_and_the_next_one_goes_on(models: Path, tmp_path: Path) -> None:
    wait: list[Request] = []
    process: list[subprocess.Popen[str]] = []

    def busy(request: Request) -> Response | None:
        # The newest come first: the last of the six stays out of reach for five minutes.
        if "/org/m0/resolve/" not in request.url.path:
            return None
        if not wait:
            process[0].send_signal(signal.SIGTERM)
        wait.append(request)
        return Response(status_code=503, headers={"Retry-After": "300"})

    with HubServer(models, faults=busy) as hub:
        words = [*RUN, "nightly", hub.url, "--graph", str(tmp_path)]
        with subprocess.Popen(words, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT) as started:
            process.append(started)
            _, said = started.communicate(timeout=60)
        assert started.returncode == 143, said
        assert "stopped within a run; the next one goes on from there" in said
        assert "Traceback" not in said
        hub.counted.faults = None
        report = json.loads(call("nightly", hub.url, "--json", graph=tmp_path).stdout)
    assert report["resumed"]
    assert (report["models"], report["models_seen"]) == (6, 6)
    assert 1 <= report["models_new"] < 6
    assert [row["status"] for row in rows("runs", graph=tmp_path)] == ["interrupted", "done"]


def scraped(address: str) -> dict[str, float]:
    text = urllib.request.urlopen(address, timeout=10).read().decode()
    found = re.findall(r"^(modelkin_\S+) (\S+)$", text, re.MULTILINE)
    return {name: float(value) for name, value in found if "_created" not in name}


def test_prometheus_reads_what_runs_did(models: Path, tmp_path: Path) -> None:
    served = tmp_path / "hub"
    shutil.copytree(models, served)
    (served / "org/m1/model.safetensors").write_bytes(b"short")
    with (
        HubServer(served) as hub,
        serving(tmp_path / "graph", hub.url, "--now", "--json", "--metrics-port", "0", real=True) as schedule,
    ):
        schedule.wait_for("metrics on http://127.0.0.1:")
        address = schedule.said.split()[-1]
        schedule.wait_for('"command": "nightly"')
        schedule.wait_for("next run")
        found = scraped(address)
        # When the next run is due is told a moment after the report.
        while found["modelkin_next_run_timestamp_seconds"] <= found["modelkin_last_run_timestamp_seconds"]:
            found = scraped(address)
        schedule.stop()
    report = next(json.loads(line) for line in schedule.said.splitlines() if line.startswith("{"))
    assert found['modelkin_runs_total{outcome="done"}'] == 1
    assert found['modelkin_models_total{outcome="new"}'] == report["models_new"] == 5
    assert found['modelkin_models_total{outcome="skipped"}'] == 1
    assert [name for name in found if name.startswith("modelkin_skipped_total")] == [
        f'modelkin_skipped_total{{reason="{reason}"}}' for reason in report["skipped_reasons"]
    ]
    assert found["modelkin_read_bytes_total"] == report["bytes_read"] > 0
    assert found["modelkin_requests_total"] == found["modelkin_run_requests"] == report["requests"] > 5
    assert found['modelkin_edges_total{change="added"}'] == report["edges_added"] > 0
    assert found['modelkin_graph{kind="models"}'] == 5
    assert (found["modelkin_run_in_progress"], found["modelkin_last_run_success"]) == (0, 1)
    assert found["modelkin_next_run_timestamp_seconds"] > found["modelkin_last_run_timestamp_seconds"] > 0


def test_a_port_that_is_taken_is_told(models: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = call("schedule", "--cron", "0 2 * * *", models, "--metrics-port", str(port), graph=tmp_path)
    assert result.exit_code == 1
    assert f"127.0.0.1:{port}" in result.stderr
    assert "choose another --metrics-port" in result.stderr


TOKEN, PASSWORD = "hf_TheSecretOfThisTest", "ThePasswordOfThisTest"
IMPATIENT = [
    sys.executable,
    "-c",
    "import modelkin.stopping as s; s.Stopping.sleep = lambda self, seconds: self.check();"
    "from modelkin.cli import main; main()",
]
SECRETS = [TOKEN, PASSWORD, *(base64.b64encode(each.encode()).decode()[:20] for each in (TOKEN, f"me:{PASSWORD}"))]


def told(folder: Path) -> bytes:
    """All that a graph's files hold: their bytes, and what DuckDB has compressed."""
    found = b"".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())
    for database in folder.glob("*.duckdb"):
        with duckdb.connect(str(database), read_only=True) as connection:
            for (table,) in connection.execute("select table_name from duckdb_tables()").fetchall():
                found += repr(connection.execute(f'from "{table}"').fetchall()).encode()
    return found


def test_tokens_are_in_no_output_no_log_and_no_file(models: Path, tmp_path: Path) -> None:
    seen: list[str] = []

    def careless(request: Request) -> Response | None:
        """Sends back what it was told, in whatever it sends."""
        told = request.headers.get("authorization", "")
        seen.append(told)
        echo = {"X-Error-Message": told, "X-Request-Id": told}
        answers: dict[str, Callable[[], Response]] = {
            "/org/m1/": lambda: JSONResponse({"error": told}, 403, echo),
            "/org/m2/": lambda: JSONResponse({"error": told}, 400, echo),
            "/api/models/org/m3/": lambda: Response(told, 200, echo),
            "/org/m3/resolve": lambda: Response(told, 200, echo),
            "/org/m4/resolve": lambda: Response(
                status_code=302, headers={"Location": f"http://127.0.0.1:1/{told[6:]}"}
            ),
        }
        return next((answer() for part, answer in answers.items() if part in request.url.path), None)

    with HubServer(models, faults=careless) as hub:
        secret = hub.url.replace("://", f"://me:{PASSWORD}@")
        environment = {**ENVIRONMENT, "HF_TOKEN": TOKEN, "HF_ENDPOINT": hub.url}
        text = run_in(tmp_path, environment, [*IMPATIENT, "nightly", "hub", "--json"])
        assert set(json.loads(text[0])["skipped_reasons"]) >= {"gated", "refused", "bad_answer", "unavailable"}
        for words in (["runs"], ["skipped"], ["sql", "from repositories"], ["check"]):
            text.append(call(*words, "--json", graph=tmp_path / "graph").output)
        for wrong in (
            [secret],
            ["hub:" + secret, "--endpoint", "http://x.test"],
            [f"ftp://a:{PASSWORD}@h/?t={TOKEN}"],
        ):
            text.append(call("nightly", *wrong, graph=tmp_path / "graph").output)
        with_password = {**environment, "HF_ENDPOINT": secret}
        with serving(tmp_path / "graph", "hub", "--now", env=with_password, ingest="source.ask('org/m3')") as schedule:
            schedule.wait_for("holds ")
            schedule.stop()
        hub.counted.faults = lambda request: Response(f"<{TOKEN}>")
        text += run_in(tmp_path, {**environment, "HF_TOKEN": TOKEN + "\x01"}, [*IMPATIENT, "nightly", "hub"])
    text += run_in(tmp_path, {**environment, "HF_ENDPOINT": secret + "/?token=" + TOKEN}, [*RUN, "nightly", "hub"])
    assert {f"Bearer {TOKEN}", f"Basic {base64.b64encode(f'me:{PASSWORD}'.encode()).decode()}"} <= set(seen)
    everything = "".join(text).encode() + schedule.said.encode() + told(tmp_path)
    assert [secret for secret in SECRETS if secret.encode() in everything] == []


def run_in(folder: Path, environment: Mapping[str, str], words: list[str]) -> list[str]:
    done = subprocess.run(words, capture_output=True, text=True, cwd=folder, env=environment, timeout=100)
    assert "Traceback" not in done.stderr, done.stderr
    return [done.stdout, done.stderr]


def command_in(line: str) -> list[str]:
    words = shlex.split(line)
    return words[words.index("/opt/modelkin/.venv/bin/modelkin") + 1 :]


def test_the_unit_and_the_cron_line_of_the_docs_hold(tmp_path: Path) -> None:
    text = DOCS.read_text()
    unit = re.search(r"```ini\n(.*?)```", text, re.DOTALL)
    cron = re.search(r"```\n(0 2 .*?)\n```", text)
    assert unit is not None
    assert cron is not None
    for line in (re.search("^ExecStart=(.*)$", unit[1], re.MULTILINE), cron):
        assert line is not None
        words = [word for word in command_in(line[1]) if ">" not in word and not word.endswith(".jsonl")]
        assert parsed(words)["graph"] == Path("/var/lib/modelkin")
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("no systemd-analyze here; the command lines were parsed")
    path = tmp_path / "modelkin.service"
    path.write_text(unit[1].replace("/opt/modelkin/.venv/bin/modelkin", sys.executable))
    done = subprocess.run([analyze, "verify", str(path)], capture_output=True, text=True, timeout=60)
    assert "modelkin.service" not in done.stderr, done.stderr


def parsed(words: list[str]) -> dict[str, Any]:
    """What the command line makes of these words; it raises when they are wrong."""
    import typer

    commands = typer.main.get_command(app)
    with commands.make_context("modelkin", list(words)) as context:
        name, command, rest = commands.resolve_command(context, [*context._protected_args, *context.args])  # type: ignore[attr-defined]
        assert command is not None
        with command.make_context(name, rest, parent=context) as inner:
            return dict(inner.params)
