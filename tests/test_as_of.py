"""Time travel: after any sequence of runs, the graph as of a run answers as it did right after that run."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from modelkin.graph import ModelGraph
from store.edges import write_edges
from store.errors import StopError
from store.history import AsOf
from store.lineage import close_inferred, live_models, replace_components, write_inferred, write_merges
from store.records import Claim, Edge, Evidence, Inferred, Merge
from store.writer import GraphWriter
from tests.calling import call
from tests.grown import grow, start
from tests.runs import index
from tests.small_graph import model, writer
from tests.weights import save

NAMES = ("a", "b", "c", "d", "x/a")
VIEWS = (
    "select * from lineage order by all",
    "select * from parents order by all",
    "select * from audit order by all",
    "select * from current_edges order by all",
    "select * from current_merges order by all",
    "select * from live_models order by all",
    "select * exclude (stale) from components order by all",
    "select * from claims order by all",
    "select * from inferred order by all",
    "select * from runs order by all",
)
"""Of `nodes`, rows of models that came later are not looked at by anything; what waits for an update is no lineage."""


def told(path: Path, as_of: AsOf | None = None) -> dict[str, Any]:
    """Everything that the graph answers. What was measured is kept for pairs of today's models alone."""
    with ModelGraph.open(path, as_of=as_of) as graph:
        said: dict[str, Any] = {query: graph.sql(query).fetchall() for query in VIEWS}
        if len(graph):
            said["sketches"] = graph.sql("select distinct model_id from sketches order by all").fetchall()
        said |= {"models": graph.models(), "edges": graph.edges(), "audit": graph.audit(every=True)}
        said |= {"trees": list(graph.trees()), "names": list(graph), "counts": graph.trees_and_alone()}
        placed = [row for row in graph.models() if row.root is not None]
        for name in [row.name for row in placed]:
            said[name] = (
                *(ask(name) for ask in (graph.ancestors, graph.parents, graph.descendants, graph.siblings, graph.tree)),
                replace(graph.explain(name), measured=None, runner_up_measured=None),
            )
    return said


class Step(NamedTuple):
    """One run: what comes (with its content), what goes, whether trees are found, and how the run ends."""

    arrives: dict[str, int]
    goes: set[str]
    parents: list[int]
    """Of the live models in their order, each the number of an earlier one, or none."""
    stages: int
    ends: str
    """updated, crawled, killed, or moved: crawled, and one model's tree is to be solved again."""


steps = st.builds(
    Step,
    arrives=st.dictionaries(st.sampled_from(NAMES), st.integers(0, 2), max_size=3),
    goes=st.sets(st.sampled_from(NAMES), max_size=2),
    parents=st.lists(st.integers(-1, 4), min_size=5, max_size=5),
    stages=st.integers(0, 2),
    ends=st.sampled_from(["updated", "updated", "updated", "crawled", "moved", "killed"]),
)


class KilledError(Exception):
    pass


def take(path: Path, step: Step) -> bool:
    """Do one run; whether it was published."""
    try:
        with writer(path) as run:
            models = [
                model(name, revision=f"r{run.run_id}", claims=[Claim("base_model", NAMES[content], "README.md")])
                for name, content in step.arrives.items()
            ]
            models = [replace(each, content_hash=f"{each.name}-{step.arrives[each.name]}") for each in models]
            run.add(models, (), {"a" * 16: (("layers.0.weight", (2,), 2, "weight"),)})
            run.remove(step.goes)
            if step.ends == "moved":
                # As when a date is corrected.
                run.connection.execute(
                    "update components set stale = true "
                    "where model_id = (select min(model_id) from components where model_id > 0)"
                )
            elif step.ends != "crawled":
                place(run, step)
                run.finish_run(mode="default")
            if step.ends == "killed":
                raise KilledError
            run.publish()
    except KilledError:
        return False
    return True


def place(run: GraphWriter, step: Step) -> None:
    """A forest over the live models, as an update would write it; a model with two earlier ones may be a merge of them,
    and the first root of all may hang on an inferred ancestor together with another one."""
    c = run.connection
    ids = [each.model_id for each in live_models(c)]
    stored = [row[0] for row in c.execute("select model_id from components where model_id > 0").fetchall()]
    parent = {
        child: ids[wanted]
        for at, (child, wanted) in enumerate(zip(ids, step.parents, strict=False))
        if 0 <= wanted < at
    }
    roots = [each for each in ids if each not in parent]
    node = Inferred(-7 - step.stages, f"inferred/{step.stages}", "a" * 16, 2)
    nodes = [node] if len(roots) > 1 and step.parents[0] == 0 else []
    parent |= dict.fromkeys(roots[:2], node.inferred_id) if nodes else {}
    evidence = (Evidence("kurtosis", 0.5, 1.5, f"said {step.stages}"),)
    edges = [
        Edge(child, above, "finetune", 0.1 * step.parents[1], 0.9, ids[0] if ids[0] != child else None, 0.1, evidence)
        for child, above in parent.items()
    ]
    merges = [
        Merge(child, each, 0.5, "linear")
        for child, above in parent.items()
        if above == ids[1 % len(ids)] and step.stages == 1 and above != ids[0]
        for each in (above, ids[0])
    ]
    gone = sorted(set(stored) - set(ids))
    write_inferred(c, run.run_id, nodes)
    write_edges(c, run.run_id, edges, [*ids, *gone])
    write_merges(c, run.run_id, merges, [*ids, *gone])
    trees = []
    for root in [*(each for each in ids if each not in parent), *(each.inferred_id for each in nodes)]:
        below = [root]
        for each in below:
            below += [child for child, above in parent.items() if above == each]
        members = [each for each in below if each > 0]
        trees.append((members, {each: parent[each] for each in below if each in parent}))
    stages = {each: "specialization" if (each + step.stages) % 2 else "generalization" for each in ids}
    replace_components(c, trees, gone, stages)
    replace_components(c, [], gone)
    close_inferred(c, run.run_id)


# A history takes a second: shrinking one would take minutes.
@settings(max_examples=8, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(st.lists(steps, min_size=2, max_size=6))
def test_as_of_a_run_equals_what_was_told_right_after_it(
    tmp_path_factory: pytest.TempPathFactory, history: list[Step]
) -> None:
    path = tmp_path_factory.mktemp("graph")
    after: dict[int, dict[str, Any]] = {}
    for run_id, step in enumerate(history, 1):
        if take(path, step):
            after[run_id] = told(path)
    if not after:
        return
    for run_id, said in after.items():
        then = told(path, run_id)
        assert then == said, f"run {run_id}"
    for run_id in {*range(1, max(after))} - set(after):
        with pytest.raises(StopError, match=rf"run {run_id} did not finish \(interrupted\).*went on from what it had"):
            ModelGraph.open(path, as_of=run_id)


def test_real_runs_are_remembered(tmp_path: Path) -> None:
    """Models come, go and are revised, and an ancestor that is missing is inferred in between."""
    base = start(ord("d"), layers=2, width=40)
    child = grow(base, 1)
    models = {"base": base, "child": child, "uncle-1": grow(base, 11), "uncle-2": grow(base, 21)}
    models |= {f"grand-{i}": grow(child, 10 * i + 2) for i in range(4)}
    source, graph = tmp_path / "source", tmp_path / "graph"
    after: dict[int, dict[str, Any]] = {}

    def run() -> None:
        index(source, graph)
        after[len(after) + 1] = told(graph)

    for name in models:
        save(source / name, models[name])
    run()
    shutil.rmtree(source / "child")
    run()
    save(source / "grand-0", grow(base, 99))
    save(source / "merge", {name: (w + models["grand-2"][name]) / 2 for name, w in models["grand-1"].items()})
    run()
    save(source / "child", child)
    run()
    for run_id, said in after.items():
        assert told(graph, run_id) == said, f"run {run_id}"
    assert len({str(said["trees"]) for said in after.values()}) == 4
    with ModelGraph.open(graph, as_of=2) as asked:
        assert any(each.inferred for each in asked.ancestors("grand-1"))
        assert repr(asked).endswith("generation 4, as of run 2>")
        assert {each.name for each in asked.identify(source / "grand-1")} >= {"grand-1", "grand-2"}


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    """After run 1: a ── b; after run 2: b alone, for a is gone."""
    path = tmp_path / "graph"
    assert take(path, Step({"a": 0, "b": 1}, set(), [-1, 0, -1, -1, -1], 0, "updated"))
    assert take(path, Step({}, {"a"}, [-1] * 5, 0, "updated"))
    return path


@pytest.mark.parametrize(
    ("words", "now", "then"),
    [
        (("models",), "b", "a"),
        (("edges",), "no edges", "finetune"),
        (("ancestors", "b"), "root of its tree", "finetune"),
        (("parents", "b"), "root of its tree", "finetune"),
        (("descendants", "a"), "no model a", "finetune"),
        (("siblings", "a"), "no model a", "root|no siblings"),
        (("tree",), "without relatives: b", "finetune"),
        (("tree", "b"), "no relatives", "2 models"),
        (("explain", "b"), "a root without children", "child of a"),
        (("audit",), "1 circular", "2 circular"),
        (("sql", "select count(*) as n from lineage where parent = 'a'"), "0", "1"),
    ],
)
def test_every_command_can_look_back(graph: Path, words: tuple[str, ...], now: str, then: str) -> None:
    import re

    today, past = call(*words, graph=graph), call(*words, "--as-of", "1", graph=graph)
    assert re.search(now, today.stdout + today.stderr)
    assert past.exit_code == 0
    assert "as of run 1, finished 2024-05-28 10:00:00 UTC" in past.stderr
    assert re.search(then, past.stdout + past.stderr)


def test_json_as_of_stays_json(graph: Path) -> None:
    result = call("edges", "--as-of", "1", "--json", graph=graph)
    assert [json.loads(line)["child"] for line in result.stdout.splitlines()] == ["b"]


def test_errors_name_what_was_asked(graph: Path) -> None:
    for asked, says in (("7", "no run 7"), ("2999-01-01", "yet to come"), ("soon", "neither a run nor a date")):
        result = call("models", "--as-of", asked, graph=graph)
        assert (result.exit_code, result.stdout) == (1, "")
        assert says in result.stderr


def test_past_and_present_are_open_side_by_side(graph: Path) -> None:
    with ModelGraph.open(graph) as now, ModelGraph.open(graph, as_of=1) as then, ModelGraph.open(graph) as again:
        assert (list(now), list(then), list(again)) == (["b"], ["a", "b"], ["b"])
        assert (now.as_of, then.as_of.run_id if then.as_of else None) == (None, 1)
        with pytest.raises(StopError):
            then.sql("delete from models")
