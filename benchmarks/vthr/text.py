"""Real English text without a network: what the installed packages say about themselves, and WordPiece to number it.

A domain is a package or a group of them. Its text is the docstrings, comments and messages of its source files, or
the licences and descriptions that came with every package. It is the same on every machine with the same packages.
"""

from __future__ import annotations

import ast
import functools
import importlib.util
import random
import re
import sys
import sysconfig
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

import torch

from store.errors import StopError

__all__ = ["DOMAINS", "Pair", "WordPiece", "classes", "padded", "pairs", "sentences", "shuffled"]

FILES, FROM_ONE_FILE, LEAST_PAIRS = 240, 40, 300
MOST_CLASSES, LEAST_OF_CLASS = 6, 20
Item = TypeVar("Item")

DOMAINS: Mapping[str, tuple[str, ...]] = {
    "network-layers": ("torch.nn", "torch.optim", "torch._torch_docs", "torch._tensor_docs"),
    "parallel-training": ("torch.distributed", "torch.multiprocessing"),
    "compilers": ("torch._inductor", "torch._dynamo", "numba.core"),
    "statistics": ("scipy.stats", "torch.distributions"),
    "signals": ("scipy.signal", "scipy.ndimage", "scipy.fft", "scipy.interpolate"),
    "optimisation": ("scipy.optimize", "scipy.linalg", "scipy.sparse", "scipy.integrate"),
    "arrays": ("numpy",),
    "graphs": ("networkx",),
    "databases": ("sqlalchemy",),
    "tables": ("pandas",),
    "physics": ("sympy.physics", "sympy.geometry", "sympy.vector", "sympy.diffgeom"),
    "number-theory": ("sympy.ntheory", "sympy.polys", "sympy.combinatorics", "mpmath"),
    "internet": ("http", "email", "urllib", "asyncio", "xml", "ssl", "socket", "smtplib", "ftplib", "imaplib"),
    "language": ("ast", "inspect", "typing", "unittest", "importlib", "dis", "logging", "multiprocessing", "mypy"),
    "testing": ("hypothesis", "_pytest", "xdist"),
    "web": ("starlette", "uvicorn", "httpx2", "httpcore2", "anyio", "click", "typer", "rich", "jinja2"),
    "hub": ("huggingface_hub", "fsspec", "hf_xet", "tqdm", "pip"),
    "licences": ("*licen*", "*notice*", "*copying*"),
    "descriptions": ("metadata", "*.md"),
}

BREAK = re.compile(r"(?<=[.!?])\s+(?=[A-Z])")
MARKUP = re.compile(r":[a-z:]+:`~?([^`<]*)[^`]*`|[`*|]+|</?[a-z]+>")
COMMENT = re.compile(r"(?:^[ \t]*#(?!!)[^\n]*\n)+", re.MULTILINE)
CODE = re.compile(r"^\s*(>>>|\.\.\.? |\.\. |[:|+=>~-]|#)")


class Pair(NamedTuple):
    """Two sentences of which one follows the other, and the file that they are from."""

    first: str
    second: str
    source: str


def sentences(text: str) -> Iterator[str]:
    """The whole sentences of a docstring or a page; code, tables, headings and fragments are left out."""
    for block in re.split(r"\n\s*\n", text):
        lines = [line for line in block.splitlines() if not CODE.match(line)]
        joined = re.sub(r"\s+", " ", MARKUP.sub(r"\1", " ".join(lines))).strip()
        for sentence in BREAK.split(joined):
            words = sentence.split(" ")
            plain = sum(char.isalpha() or char == " " for char in sentence)
            if 5 <= len(words) <= 60 and plain >= 0.85 * len(sentence) and re.match(r"[A-Z].*[.!?]$", sentence):
                yield sentence


def texts_of_source(path: Path) -> Iterator[str]:
    """The string constants of a Python file that are long enough to say something, and its blocks of comments."""
    try:
        source = path.read_text(encoding="utf-8")
        tree = ast.parse(source)
    except (SyntaxError, ValueError):  # a file that is no Python on purpose, as some packages ship for their tests
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and len(node.value) > 80:
            yield node.value
    for block in COMMENT.findall(source):
        yield re.sub(r"(?m)^[ \t]*#+ ?", "", block)


def texts_of_page(path: Path) -> Iterator[str]:
    yield path.read_text(encoding="utf-8", errors="replace")


def source_files(module: str) -> Iterator[Path]:
    """The files of an installed module, below its folder if it is a package; none if it is not installed."""
    try:
        spec = importlib.util.find_spec(module.partition(".")[0])  # finding a whole package imports nothing
    except ImportError:
        return
    if spec is None or spec.origin is None:
        return
    top = Path(spec.origin)
    base = top.parent.joinpath(*module.split(".")[1:]) if spec.submodule_search_locations else top.with_suffix("")
    if base.is_dir():
        yield from (path for path in base.rglob("*.py") if "tests" not in path.relative_to(base).parts)
    elif base.with_suffix(".py").is_file():
        yield base.with_suffix(".py")


def page_files(patterns: Iterable[str]) -> Iterator[Path]:
    """The pages below the installed packages whose names match, whatever the case."""
    wanted = [re.compile(re.escape(pattern).replace(r"\*", ".*"), re.IGNORECASE) for pattern in patterns]
    for path in Path(sysconfig.get_path("purelib")).rglob("*"):
        matches = any(pattern.fullmatch(path.name) for pattern in wanted)
        if matches and path.suffix not in {".py", ".pyc"} and path.is_file():
            yield path


def short_name(path: Path) -> str:
    """The path below the folder of packages, or below the standard library: the same on every machine."""
    for base in (sysconfig.get_path("purelib"), sysconfig.get_path("stdlib")):
        if path.is_relative_to(base):
            return path.relative_to(base).as_posix()
    return path.as_posix()


def spread(items: Sequence[Item], most: int) -> Sequence[Item]:
    """At most so many, evenly from the whole list."""
    return items if len(items) <= most else [items[at * len(items) // most] for at in range(most)]


@functools.cache
def pairs(domain: str) -> tuple[Pair, ...]:
    """The pairs of a domain, files in the order of their names; no sentence comes twice.

    Raises StopError when too little of the domain is installed.
    """
    pages = domain in ("licences", "descriptions")
    named = DOMAINS[domain]
    found = page_files(named) if pages else (path for module in named for path in source_files(module))
    files = sorted({short_name(path): path for path in found}.items())
    read = texts_of_page if pages else texts_of_source
    seen: set[str] = set()
    result: list[Pair] = []
    for path in spread([path for _, path in files], FILES):
        here = []
        for text in read(path):
            fresh = [sentence for sentence in dict.fromkeys(sentences(text)) if sentence not in seen]
            seen.update(fresh)
            here += [Pair(*both, short_name(path)) for both in zip(fresh[::2], fresh[1::2], strict=False)]
        result += spread(here, FROM_ONE_FILE * 10 if pages else FROM_ONE_FILE)
    if len(result) < LEAST_PAIRS:
        raise StopError(
            f"domain {domain}: {len(result)} pairs of sentences in {len(files)} files below {sys.prefix}, "
            f"expected at least {LEAST_PAIRS}: install the project with its extra `dev`"
        )
    return tuple(result)


def shuffled(items: Sequence[Pair], size: int, draw: random.Random) -> Iterator[list[Pair]]:
    """Batches without end; every item is seen before one comes again."""
    if len(items) < size:
        raise ValueError(f"{len(items)} pairs do not fill a batch of {size}")
    while True:
        order = draw.sample(items, len(items))
        yield from (order[at : at + size] for at in range(0, len(order) - size + 1, size))


def classes(items: Sequence[Pair]) -> dict[str, int]:
    """The files with the most pairs, numbered."""
    counts = sorted(Counter(pair.source for pair in items).items(), key=lambda item: (-item[1], item[0]))
    return {source: at for at, (source, count) in enumerate(counts[:MOST_CLASSES]) if count >= LEAST_OF_CLASS}


class WordPiece:
    """BERT's uncased tokenizer: split at spaces and punctuation, then the longest known piece first."""

    def __init__(self, vocabulary: Iterable[str]) -> None:
        self.ids = {piece: at for at, piece in enumerate(vocabulary)}
        self.unknown, self.first, self.last, self.pad = (
            self.ids[piece] for piece in ("[UNK]", "[CLS]", "[SEP]", "[PAD]")
        )
        self.known: dict[str, tuple[int, ...]] = {}

    def __call__(self, text: str, length: int) -> list[int]:
        """The ids of at most `length` pieces, the two marks at the ends among them; not padded."""
        ids = [piece for word in split_words(text) for piece in self.word(word)]
        return [self.first, *ids[: length - 2], self.last]

    def word(self, word: str) -> tuple[int, ...]:
        if word not in self.known:
            self.known[word] = self.pieces(word)
        return self.known[word]

    def pieces(self, word: str) -> tuple[int, ...]:
        ids: list[int] = []
        start = 0
        while start < len(word) <= 100:
            ends = range(len(word), start, -1)
            prefix = "##" if start else ""
            end = next((end for end in ends if prefix + word[start:end] in self.ids), None)
            if end is None:
                return (self.unknown,)
            ids.append(self.ids[prefix + word[start:end]])
            start = end
        return tuple(ids) if ids else (self.unknown,)


def padded(texts: Iterable[Sequence[int]], pad: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids filled up to the longest, and which of them are text."""
    rows = [list(row) for row in texts]
    longest = max(map(len, rows))
    ids = torch.tensor([row + [pad] * (longest - len(row)) for row in rows])
    return ids, torch.tensor([[at < len(row) for at in range(longest)] for row in rows])


def split_words(text: str) -> list[str]:
    """Lower-case words without accents; punctuation and Chinese characters stand alone."""
    spread_out = []
    for char in unicodedata.normalize("NFD", text.lower()):
        category = unicodedata.category(char)
        if char.isspace() or category == "Zs":
            spread_out.append(" ")
        elif category == "Mn" or category.startswith("C") or char == "\ufffd":
            continue
        elif is_punctuation(char, category) or "\u4e00" <= char <= "\u9fff":
            spread_out.append(f" {char} ")
        else:
            spread_out.append(char)
    return "".join(spread_out).split()


def is_punctuation(char: str, category: str) -> bool:
    """As BERT has it: Unicode's punctuation and every ASCII sign that is neither a letter nor a digit."""
    return category.startswith("P") or ("!" <= char <= "~" and not char.isalnum())
