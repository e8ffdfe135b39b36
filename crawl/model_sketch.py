"""The sketch of one model: its files found, its headers read, its tensors sketched, its card's claims noted."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from threading import Event
from typing import Final

from blake3 import blake3

from crawl.architecture import adapter_key, architecture_key, backbone, canonical_names, role
from crawl.claims import read_claims
from crawl.described import Described
from crawl.plan import Plan, TensorPlan, make_plan, within_budget
from crawl.readers import Readers
from crawl.safetensors_file import TensorEntry
from crawl.shards import model_weights
from crawl.sketch import sketch_tensor
from crawl.source import FileRef, ModelRef, Source
from store.dtypes import DTYPES
from store.errors import RetryError, SkipError
from store.format import SketchFormat
from store.records import Claim, Model, Skipped, TensorSketch

__all__ = ["Backbone", "SketchedModel", "sketch_model"]

Backbone = tuple[tuple[str, tuple[int, ...], int, str], ...]
"""(canonical name, shape, elements, role) of the tensors that define an architecture."""

_CARD_BYTES: Final = 256 << 10
_CONFIG_BYTES: Final = 1 << 20
_BUDGET_BYTES: Final = 4
"""Bytes a value that a budget is reckoned in, whatever is stored: a float32 and a bfloat16 copy are probed alike."""

_LEAVES_OUT: Final = frozenset(
    ("empty_tensor", "not_finite", "unknown_dtype", "bad_quantization", "unsupported_layout", "too_large")
)
"""Reasons for which a tensor is left out while it is read, and the rest of its model is kept."""

_SAID: Final = frozenset(("stopped", "over_budget", "gated", "disabled", "vanished", "refused"))
"""Reasons that are not about what a file holds."""


@dataclass(frozen=True, slots=True)
class SketchedModel:
    """A model, what of it was left out, and the tensors that define its architecture."""

    model: Model
    skipped: tuple[Skipped, ...]
    backbone: Backbone


def sketch_model(
    source: Source, ref: ModelRef, *, budget: int, form: SketchFormat | None = None, stop: Event | None = None
) -> SketchedModel:
    """Read and sketch one model; `budget` in bytes, 0 for everything.

    Raises SkipError when nothing of it can be used, or soon after another thread has set `stop`; RetryError when the
    network failed.
    """
    form = form or SketchFormat()
    listed = source.listed_files(ref) if isinstance(source, Described) else None
    if listed is not None:
        try:
            return _sketch_with(source, ref, listed, budget, form, stop)
        except SkipError as error:
            if error.reason in _SAID:
                raise
            # A list of models gives no digests. With those of its own list, another file in its place is told from it.
    return _sketch_with(source, ref, source.files(ref), budget, form, stop)


def _sketch_with(
    source: Source, ref: ModelRef, files: Sequence[FileRef], budget: int, form: SketchFormat, stop: Event | None
) -> SketchedModel:
    readers = Readers(source, ref)
    try:
        return _sketch_files(source, ref, files, readers, budget, form, stop)
    finally:
        readers.close()


def _sketch_files(
    source: Source,
    ref: ModelRef,
    files: Sequence[FileRef],
    readers: Readers,
    budget: int,
    form: SketchFormat,
    stop: Event | None,
) -> SketchedModel:
    skipped: list[Skipped] = []

    def left_out(path: str, tensor: str, why: SkipError) -> None:
        skipped.append(Skipped(ref.name, ref.revision, path, "tensor", why.reason, f"{tensor}: {why}"))

    weights = model_weights(source, ref, files, left_out, readers)
    found = weights.tensors
    entries = {entry.name: (file, entry) for file, entry in found}
    if not entries:
        raise SkipError("no_tensors", f"{ref.name}: the weight files hold no tensor that can be read")
    canonical = canonical_names({name: entry.shape for name, (_, entry) in entries.items()})
    shapes = {canonical[name]: entry.shape for name, (_, entry) in entries.items()}
    plan = make_plan(shapes, form)
    elements = {name: math.prod(shape) for name, shape in shapes.items()}
    # The products of an adapter are larger than what they are made of, by as much as its writer pleases.
    whole = not weights.adapter and (budget <= 0 or _BUDGET_BYTES * sum(elements.values()) <= budget)
    sizes = {name: _BUDGET_BYTES * (n if whole else plan.tensors[name].covered(n)) for name, n in elements.items()}
    chosen = within_budget(sizes, shapes, budget)
    if not chosen:
        raise SkipError(
            "over_budget",
            f"{ref.name}: its smallest tensor is larger than the budget of {budget} bytes; raise --budget",
        )

    sketches: list[TensorSketch] = []
    for file, group in _by_file(found).items():
        wanted = [entry for entry in group if canonical[entry.name] in chosen]
        spans = (_bytes_of(entry, plan.tensors[canonical[entry.name]], whole) for entry in wanted)
        plain = all(entry.values is None for entry in wanted)
        readers.plan(file, [span for span in spans if span is not None], in_order=plain)
        for entry in wanted:
            if stop is not None and stop.is_set():
                raise SkipError("stopped", f"{ref.name}: reading was stopped")
            readers.turn_to(entry.start, entry.stop)
            try:
                sketches.append(_sketch_entry(readers, file, entry, canonical[entry.name], plan, whole))
            except SkipError as error:
                if error.reason not in _LEAVES_OUT:
                    raise
                skipped.append(Skipped(ref.name, ref.revision, file.path, "tensor", error.reason, str(error)))
    sketches.sort(key=lambda sketch: sketch.tensor)
    _check_usable(ref, sketches, shapes, skipped)
    body = sorted(shapes) if weights.adapter else backbone(shapes)
    weight_files = {file.path: file.size for file, _ in found}
    return SketchedModel(
        Model(
            name=ref.name,
            revision=ref.revision,
            source=source.label,
            architecture=adapter_key(shapes) if weights.adapter else architecture_key(shapes),
            dtype=_main_dtype(sketches),
            tensors=len(sketches),
            parameters=sum(sketch.elements for sketch in sketches),
            bytes_total=sum(weight_files.values()),
            bytes_read=readers.bytes_read,
            content_hash=_content_hash(sketches),
            created_at=ref.created_at,
            modified_at=ref.modified_at,
            sketches=tuple(sketches),
            claims=_claims(source, ref, {file.path for file in files}),
            format=weights.format,
            quantization=_quantization(entries, sketches),
            kind="adapter" if weights.adapter else "model",
        ),
        (*skipped, *_zero_tensors(ref, sketches)),
        tuple((name, shapes[name], math.prod(shapes[name]), role(name, shapes[name])) for name in body),
    )


def _bytes_of(entry: TensorEntry, plan: TensorPlan, whole: bool) -> tuple[int, int] | None:
    """Which bytes of its file the sketch of a tensor needs; None where only who decodes them knows."""
    if whole or plan.run is None:
        return entry.start, entry.stop
    if entry.values is not None:
        # Also where as many bytes are stored: a transposed tensor has its run all over them.
        return None
    itemsize = DTYPES[entry.dtype].itemsize
    return entry.start + plan.run[0] * itemsize, entry.start + plan.run[1] * itemsize


def _sketch_entry(
    readers: Readers, file: FileRef, entry: TensorEntry, name: str, plan: Plan, whole: bool
) -> TensorSketch:
    return sketch_tensor(
        entry.opened(readers, file),
        tensor=name,
        source_name=entry.name,
        dtype=entry.dtype,
        shape=entry.shape,
        plan=plan.tensors[name],
        form=plan.format,
        whole=whole,
    )


def _by_file(found: Sequence[tuple[FileRef, TensorEntry]]) -> dict[FileRef, list[TensorEntry]]:
    """Each file's tensors in the order of their bytes."""
    groups: dict[FileRef, list[TensorEntry]] = defaultdict(list)
    for file, entry in found:
        groups[file].append(entry)
    return {file: sorted(entries, key=lambda entry: (entry.start, entry.stop)) for file, entries in groups.items()}


def _check_usable(
    ref: ModelRef, sketches: Sequence[TensorSketch], shapes: Mapping[str, tuple[int, ...]], skipped: Sequence[Skipped]
) -> None:
    members = set(backbone(shapes))
    if any(sketch.tensor in members and sketch.m2 > 0 for sketch in sketches):
        return
    reasons = Counter(row.reason for row in skipped)
    if reasons:
        reason, count = reasons.most_common(1)[0]
        first = next(row.message for row in skipped if row.reason == reason)
        raise SkipError(reason, f"no tensor can be used: {count} of {len(shapes)} are left out ({first})")
    raise SkipError("constant_weights", f"{ref.name}: all weights are constant, which says nothing about lineage")


def _zero_tensors(ref: ModelRef, sketches: Sequence[TensorSketch]) -> list[Skipped]:
    """One row for all of a model's zero tensors: they are kept, but carry no trace of a parent."""
    zero = [sketch.source_name for sketch in sketches if sketch.zeros == sketch.elements]
    if not zero:
        return []
    named = ", ".join(zero[:3]) + (f" and {len(zero) - 3} more" if len(zero) > 3 else "")
    message = f"{len(zero)} of {len(sketches)} tensors are all zeros and say nothing about lineage: {named}"
    return [Skipped(ref.name, ref.revision, None, "tensor", "zero_tensor", message)]


def _main_dtype(sketches: Sequence[TensorSketch]) -> str:
    counts: Counter[str] = Counter()
    for sketch in sketches:
        counts[sketch.dtype] += sketch.elements
    return min(counts, key=lambda dtype: (-counts[dtype], dtype))


def _quantization(entries: Mapping[str, tuple[FileRef, TensorEntry]], sketches: Sequence[TensorSketch]) -> str | None:
    """How most values are stored, where that is not as they are."""
    counts: Counter[str | None] = Counter()
    for sketch in sketches:
        counts[entries[sketch.source_name][1].stored] += sketch.elements
    return min(counts, key=lambda kind: (-counts[kind], kind or "")) if counts else None


def _content_hash(sketches: Sequence[TensorSketch]) -> str:
    digest = blake3(b"modelkin model\n")
    for sketch in sketches:
        digest.update(f"{sketch.tensor} {sketch.dtype} {sketch.shape}\n".encode() + sketch.content_hash)
    return digest.hexdigest(length=16)


def _claims(source: Source, ref: ModelRef, files: Collection[str]) -> tuple[Claim, ...]:
    """Claims are a bonus: a card that cannot be fetched costs no model, and what a list told is not asked for again."""

    def text(path: str, limit: int) -> str | None:
        return source.read_text(ref, path, limit) if path in files else None

    described = source.described(ref) if isinstance(source, Described) else None
    try:
        if described is not None and "adapter_config.json" not in files:
            return described.claims
        adapter = text("adapter_config.json", _CONFIG_BYTES)
        if described is not None:
            return tuple(dict.fromkeys((*described.claims, *read_claims(None, None, adapter))))
        return read_claims(text("README.md", _CARD_BYTES), text("config.json", _CONFIG_BYTES), adapter)
    except (SkipError, RetryError):
        return described.claims if described is not None else ()
