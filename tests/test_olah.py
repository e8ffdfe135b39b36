"""Through olah, a caching mirror that others wrote (https://github.com/vtuber-plan/olah), in its own environment.

It passes on all that is read of a model, and has no list: that is asked of the Hub that it mirrors.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import huggingface_hub
import pytest

from crawl.hub import HubSource
from scripts.hub_server import HubServer
from scripts.published import default_cache
from store.errors import StopError
from tests.hub_models import make_models
from tests.runs import answers, index
from tests.weights import family

VERSION: Final = "0.5.4"
pytestmark = [pytest.mark.thirdparty, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def program() -> Path:
    """olah's command, installed once and kept beside the published weights: its dependencies are not ours."""
    folder = default_cache().parent / f"olah-{VERSION}"
    complete = folder / "complete"
    if not complete.exists():
        shutil.rmtree(folder, ignore_errors=True)
        made = subprocess.run([sys.executable, "-m", "venv", str(folder)], capture_output=True, text=True)
        pip = [str(folder / "bin/python"), "-m", "pip", "install", "--quiet", f"olah=={VERSION}"]
        done = subprocess.run(pip, capture_output=True, text=True, timeout=500) if made.returncode == 0 else made
        if done.returncode != 0:
            pytest.skip(f"olah {VERSION} cannot be installed from PyPI: {done.stderr.strip()[-200:]}")
        complete.touch()
    return folder / "bin/olah-cli"


@contextmanager
def mirroring(program: Path, hub: HubServer, folder: Path) -> Iterator[str]:
    """olah in front of a Hub; gives its address."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    upstream, own = hub.url.removeprefix("http://"), f"127.0.0.1:{port}"
    options = {
        "host": "127.0.0.1",
        "port": port,
        "hf-scheme": "http",
        "hf-netloc": upstream,
        "hf-lfs-netloc": upstream,
        "mirror-scheme": "http",
        "mirror-netloc": own,
        "mirror-lfs-netloc": own,
        "repos-path": folder / "repos",
        "log-path": folder / "logs",
    }
    words = [str(word) for name, value in options.items() for word in (f"--{name}", value)]
    folder.mkdir()
    with (
        (folder / "said").open("w") as said,
        subprocess.Popen([program, *words], cwd=folder, stdout=said, stderr=said) as process,
    ):
        try:
            _wait_for(port, process, folder / "said")
            yield f"http://{own}"
        finally:
            process.terminate()


def _wait_for(port: int, process: subprocess.Popen[bytes], said: Path) -> None:
    until = time.monotonic() + 90
    while process.poll() is None and time.monotonic() < until:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise AssertionError(f"olah did not start:\n{said.read_text()[-2000:]}")


def test_a_crawl_through_olah_gives_the_same_graph(program: Path, tmp_path: Path) -> None:
    served = make_models(tmp_path / "served")
    family(served, "good", 1, children=2)
    with HubServer(served) as hub, mirroring(program, hub, tmp_path / "olah") as mirror:
        with pytest.raises(StopError, match="--listing URL"):
            list(HubSource(mirror).models())
        index(HubSource(hub.url), tmp_path / "straight")
        first = index(HubSource(mirror, listing=hub.url), tmp_path / "mirrored")
        assert answers(tmp_path / "mirrored") == answers(tmp_path / "straight")
        assert (first.new, first.skipped) == (4, 1)

        # The weights come from its cache the second time.
        hub.reset()
        index(HubSource(mirror, listing=hub.url), tmp_path / "again")
        assert hub.stats()["bytes_sent"] < hub.stats()["bytes_on_disk"] / 10

        # A mirror may be behind: what has become of a model the Hub is asked.
        hub.hub.rename("good/child-0", "lab/moved")
        shutil.rmtree(served / "good/child-1")
        moved = index(HubSource(mirror, listing=hub.url), tmp_path / "mirrored")
        assert (moved.new, moved.removed) == (0, 1)
        assert set(answers(tmp_path / "mirrored")) == {"ada/alpha", "good/root", "lab/moved"}
    huggingface_hub.close_session()
