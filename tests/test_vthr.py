"""scripts/vthr: the same files for the same seed, whatever stopped it; a true truth; merges and copies as defined."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.vthr import merging, shelf
from benchmarks.vthr.__main__ import main
from benchmarks.vthr.copies import COPIES, int4_groups, int8_asymmetric, int8_channel, pruned, pruned_rows
from benchmarks.vthr.datasets import DATASETS, TASKS, dataset
from benchmarks.vthr.images import CLASSES
from benchmarks.vthr.plans import VISION, plan, trees_of
from benchmarks.vthr.pretraining import CHECKPOINTS, WAYS
from benchmarks.vthr.shelf import DATE, read_state
from benchmarks.vthr.splits import Setting
from benchmarks.vthr.tuning import Recipe, tuned
from benchmarks.vthr.vit import State, ViT

SIZES = {
    "ft": 105,
    "decay": 105,
    "lora-v": 105,
    "lora-f": 105,
    "bf16": 105,
    "checkpoints": 90,
    "derived": 2 * (5 + 27),
    "merges": 5 * (9 + 13),
    "partial": 35,
    "seeds": 20,
    "missing": 105 - 10 - 2,
}


def make(to: Path, *sets: str) -> dict[str, bytes]:
    """All files of a run with next to no training, in this process."""
    arguments = ["--to", str(to), "--roots", "1", "--steps-scale", "0.004", "--jobs", "1", "--sets", *sets]
    assert main(arguments) == 0
    return {str(path.relative_to(to)): path.read_bytes() for path in sorted(to.rglob("*")) if path.is_file()}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """The work sets torch's threads for its process, which here is pytest's."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, bytes]]:
    to = tmp_path_factory.mktemp("made")
    return to, make(to, "seeds", "partial")


def test_interrupted_run_goes_on_to_the_same_bytes(
    made: tuple[Path, dict[str, bytes]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[Path] = []
    whole = shelf.write_state

    def breaking(path: Path, state: State) -> None:
        if len(written) == 5:
            raise KeyboardInterrupt
        written.append(path)
        whole(path, state)

    with monkeypatch.context() as patch:
        patch.setattr(shelf, "write_state", breaking)
        with pytest.raises(KeyboardInterrupt):
            make(tmp_path, "seeds", "partial")
    assert (tmp_path / "seeds" / "truth.csv").exists()
    assert not (tmp_path / "partial" / "truth.csv").exists()
    kept = {path: path.stat().st_ino for path in written}
    assert make(tmp_path, "seeds", "partial") == made[1]
    assert {path: path.stat().st_ino for path in written} == kept


def test_dates_and_other_settings(made: tuple[Path, dict[str, bytes]], capsys: pytest.CaptureFixture[str]) -> None:
    to, files = made
    assert {(to / name).stat().st_mtime for name in files} == {DATE}
    assert main(["--to", str(to), "--seed", "2"]) == 2
    assert "give another --to" in capsys.readouterr().err


def test_files_are_what_the_truth_lists(made: tuple[Path, dict[str, bytes]]) -> None:
    _, files = made
    for name, size in (("seeds", 4), ("partial", 7)):
        rows = list(csv.DictReader(files[f"{name}/truth.csv"].decode().splitlines()))
        models = {row["child"] for row in rows}
        assert models == {
            file.split("/", 1)[1].rsplit("/", 1)[0] for file in files if file.startswith(f"{name}/masked")
        }
        assert len(models) == size
        uploads = csv.DictReader(files[f"{name}/order.csv"].decode().splitlines())
        order = {row["model"]: int(row["order"]) for row in uploads}
        assert sorted(order.values()) == list(range(size))
        assert all(order[row["parent"]] < order[row["child"]] for row in rows if row["parent"])


def test_partial_children_keep_what_was_frozen(made: tuple[Path, dict[str, bytes]]) -> None:
    to, _ = made
    tree = plan(Setting(to, 1, 0.004), "partial", "masked")
    root, states = (
        read_state(tree.path(to, "root")),
        {node.key: read_state(tree.path(to, node.key)) for node in tree.nodes},
    )
    changed = {
        key: {name for name in root if not torch.equal(root[name], state[name])} for key, state in states.items()
    }
    assert all("embeddings" not in name and not name.startswith("encoder.layer.2.") for name in changed["upper"])
    assert all(name.startswith("encoder.layer.5.") for name in changed["last"])
    assert all("layernorm" in name or name.endswith("bias") for name in changed["bitfit"])
    assert all(".attention." in name for name in changed["attention"])
    assert changed["full"] == set(root)


@pytest.mark.parametrize("name", VISION)
def test_truth_is_a_forest(name: str, tmp_path: Path) -> None:
    trees = trees_of(name, list(WAYS))
    setting = Setting(tmp_path, 1)
    parents: dict[str, list[str]] = {}
    for tree in trees:
        for child, parent, relation, stage, of, coefficient in plan(setting, name, tree).rows():
            assert of == tree
            assert stage in ("generalization", "specialization")
            assert (relation == "") == (parent == "")
            assert (coefficient != "") == (relation == "merge")
            parents.setdefault(str(child), []).extend([str(parent)] if parent else [])
    assert len(parents) == SIZES[name]
    assert sum(not found for found in parents.values()) == (3 if name == "missing" else len(trees))
    orphans = [child for child, found in parents.items() if found and found[0].startswith("missing:")]
    assert len(orphans) == (5 * 8 + 2 * 2 if name == "missing" else 0)
    for child, found in parents.items():
        assert len(found) <= (3 if name == "merges" else 1)
        assert all(parent in parents or parent.removeprefix("missing:") not in parents for parent in found)
        seen = {child}
        while (above := parents.get(child)) and above[0] in parents:
            child = above[0]
            assert child not in seen
            seen.add(child)


def test_names_tell_nothing_and_are_those_of_ft_where_taken_from_it(tmp_path: Path) -> None:
    setting = Setting(tmp_path, 1)
    of_ft, missing = plan(setting, "ft", "masked"), plan(setting, "missing", "masked")
    assert of_ft.names == missing.names
    numbers = [int(name[-2:]) for name in of_ft.names.values()]
    assert sorted(numbers) == list(range(21)) != numbers
    assert numbers != [int(name[-2:]) for name in plan(setting, "decay", "masked").names.values()]


def test_every_dataset_has_the_classes_it_says() -> None:
    assert {name.rsplit("-", 1)[0] for name in DATASETS} == set(TASKS) == set(CLASSES)
    for task in TASKS:
        (pixels, labels), _ = dataset(f"{task}-0", 1, 0.1)
        assert pixels.dtype == torch.uint8
        assert pixels.shape[1:] == (3, 32, 32)
        assert 1 < len(set(labels.tolist())) <= CLASSES[task]
        assert 0 <= int(labels.min()) <= int(labels.max()) < CLASSES[task]


@pytest.mark.parametrize("rank", [8, 32])
def test_lora_changes_query_and_value_by_its_rank(rank: int) -> None:
    torch.manual_seed(0)
    parent = ViT(3).state_dict()
    (child,), accuracy = tuned(parent, Recipe("count-0", 1, "lora", 5e-3, rank=rank), 1, 0.03)
    assert 0 <= accuracy <= 1
    for name, tensor in parent.items():
        if name.startswith("classifier."):
            continue
        change = (child[name] - tensor).double()
        if name.endswith(("query.weight", "value.weight")):
            values = torch.linalg.svdvals(change)
            assert int((values > values[0] * 1e-4).sum()) == rank
        else:
            assert not change.any()


def test_tuning_of_checkpoints_ends_in_the_child() -> None:
    torch.manual_seed(0)
    parent, recipe = ViT(3).state_dict(), Recipe("count-0", 1, steps=100)
    states, _ = tuned(parent, recipe, 1, 0.04, 4)
    (child,), _ = tuned(parent, recipe, 1, 0.04)
    assert len(states) == 4
    assert all(torch.equal(states[-1][name], child[name]) for name in child)
    assert CHECKPOINTS == 10


def test_quantised_values_are_few() -> None:
    w = torch.randn(16, 128, generator=torch.Generator().manual_seed(0))
    assert max(len(set(group.tolist())) for group in int4_groups(w).reshape(-1, 32)) <= 16
    assert (int4_groups(w) - w).abs().max() <= w.abs().max() / 14 * 1.001
    assert all(len(set(row.tolist())) <= 255 for row in int8_channel(w))
    shifted = int8_asymmetric(w + 3)
    assert len(set(shifted.flatten().tolist())) <= 256
    assert (shifted - w - 3).abs().max() < (w.max() + 3) / 255
    assert not int8_channel(torch.zeros(4, 32)).any()


def test_copies_change_the_matrices_and_nothing_else() -> None:
    torch.manual_seed(0)
    state = ViT(3).state_dict()
    for name, (relation, change) in COPIES.items():
        copied = change(state)
        assert set(copied) == set(state)
        for key in ("embeddings.cls_token", "layernorm.weight", "classifier.weight"):
            assert torch.allclose(copied[key].float(), state[key], rtol=0.01), name
        wanted = {"float16": torch.float16, "bfloat16": torch.bfloat16}.get(name, torch.float32)
        assert {tensor.dtype for tensor in copied.values()} == {wanted}
        assert relation == "cast" or not torch.equal(
            copied["encoder.layer.0.intermediate.dense.weight"], state["encoder.layer.0.intermediate.dense.weight"]
        )
    matrices = [name for name, tensor in state.items() if name.startswith("encoder") and tensor.ndim == 2]
    zeros = sum(int((pruned(state, 0.6)[name] == 0).sum()) for name in matrices)
    assert abs(zeros / sum(state[name].numel() for name in matrices) - 0.6) < 0.01
    silenced = pruned_rows(state)["encoder.layer.3.intermediate.dense.weight"].abs().sum(1) == 0
    assert int(silenced.sum()) == 128


def test_ties_is_as_defined() -> None:
    random = np.random.default_rng(0)
    base, models, shares = random.normal(size=40), random.normal(size=(3, 40)), np.array([0.5, 0.3, 0.2])
    expected = np.empty(40)
    kept = []
    for model in models:
        change = model - base
        bound = np.sort(np.abs(change))[-8]
        kept.append(np.where(np.abs(change) >= bound, change, 0))
    for at in range(40):
        weighted = [share * change[at] for share, change in zip(shares, kept, strict=True)]
        sign = np.sign(sum(weighted))
        agreeing = [(s, w) for s, w in zip(shares, weighted, strict=True) if w != 0 and np.sign(w) == sign]
        mean = sum(w for _, w in agreeing) / sum(s for s, _ in agreeing) if agreeing else 0.0
        expected[at] = base[at] + mean
    found = merging.ties(torch.from_numpy(base), list(torch.from_numpy(models)), shares.tolist(), 0.2)
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-12)


def test_dare_keeps_the_change_on_average() -> None:
    base, model = torch.zeros(20_000), torch.ones(20_000)
    found = merging.dare(base, [model], [0.5], 0.8, torch.Generator().manual_seed(0))
    assert {round(value, 4) for value in found.tolist()} == {0.0, 2.5}
    assert abs(float(found.mean()) - 0.5) < 0.03


def test_slerp_follows_the_circle_and_the_line() -> None:
    a, b = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
    third = merging.slerp(a, b, 1 / 3)
    assert torch.allclose(third, torch.tensor([math.cos(math.pi / 6), math.sin(math.pi / 6)]), atol=1e-6)
    assert torch.equal(merging.slerp(a, a * 3, 0.5), a * 2)
    assert torch.equal(merging.slerp(a * 0, b, 0.25), b * 0.25) or torch.isfinite(merging.slerp(a * 0, b, 0.25)).all()


def test_merged_leaves_heads_out_or_takes_the_first() -> None:
    states: list[State] = [
        {"encoder.x": torch.full((2, 2), float(at)), "classifier.weight": torch.full((at + 2, 2), float(at))}
        for at in range(3)
    ]
    bare = merging.merged(states[1:], states[0], False, lambda _, models: merging.linear(models, (0.75, 0.25)))
    assert set(bare) == {"encoder.x"}
    assert torch.equal(bare["encoder.x"], torch.full((2, 2), 1.25))
    headed = merging.merged(states[1:], states[0], True, lambda b, models: merging.task_arithmetic(b, models, (1, 1)))
    assert torch.equal(headed["classifier.weight"], states[1]["classifier.weight"])
    assert torch.equal(headed["encoder.x"], torch.full((2, 2), 3.0))
