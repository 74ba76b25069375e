import json

import pytest

from xrayssl.cli import main
from xrayssl.dashboards import workspace
from xrayssl.dashboards.command import markdown, shown
from xrayssl.dashboards.workspace import Shown, build
from xrayssl.errors import UserError

pytest.importorskip("wandb_workspaces")
ROW = {"network": "test_vit", "fraction": 1.0, "seeds": [0, 1, 2]}
COMPARISON = {
    "version": 1,
    "title": "ways",
    "metrics": ["auroc_macro", "auroc/Mass", "auroc/Edema"],
    "recipes": [
        {"recipe": "random", **ROW, "metrics": {"auroc_macro": {"value": 0.7, "low": 0.6, "high": 0.8}}},
        {"recipe": "chest_mae", **ROW, "metrics": {"auroc_macro": {"value": None, "low": None, "high": None}}},
    ],
    "differences": [],
    "notes": ["Only phantoms."],
}


def spec(**what):
    """What would be sent, as plain values."""
    model = build(Shown("ways", **what), "team", "films")._to_model()
    return json.loads(model.spec.model_dump_json(by_alias=True, exclude_none=True))["section"]


def panels(found):
    return {section["name"]: section["panels"] for section in found["panelBankConfig"]["sections"]}


def test_a_bar_per_recipe_is_the_mean_of_its_seeds_with_least_and_most():
    (bar,) = panels(spec())["Test AUROC by recipe: mean, least and most of the seeds"]
    wanted = {"metrics": ["test/auroc_macro"], "groupBy": "group", "groupAgg": "mean", "groupArea": "minmax"}
    assert {name: bar["config"][name] for name in wanted} == wanted
    assert bar["viewType"] == "Bar Chart"


def test_every_class_has_a_bar_and_both_curves():
    found = panels(spec(classes=["Mass", "Edema"]))
    assert [one["config"]["metrics"] for one in found["Test AUROC by class"]] == [
        ["test/auroc/Mass"],
        ["test/auroc/Edema"],
    ]
    curves = {one["config"]["metrics"][0]: one["config"]["xAxis"] for one in found["Curves of the test"]}
    assert curves["test_roc/Mass"] == "test_roc/false_positive_rate"
    assert curves["test_precision_recall/Edema"] == "test_precision_recall/recall"


def test_training_curves_are_grouped_by_stage():
    found = panels(spec())["Training, by stage"]
    assert {one["config"]["metrics"][0]: one["config"]["groupBy"] for one in found} == dict.fromkeys(
        ("val/auroc", "val/loss", "train/loss"), "jobType")  # fmt: skip


def test_the_table_of_runs_holds_the_recipes_alone_and_their_figures_in_front():
    (runs,) = spec(recipes=["random", "chest_mae"])["runSets"]
    text = json.dumps(runs)
    assert "random" in text and "chest_mae" in text
    assert "summary:test/auroc_macro" in text
    assert [key["name"] for key in runs["grouping"]] == ["group", "jobType"]


def test_a_study_gives_its_recipes_its_classes_and_what_the_comparison_says():
    found = shown({}, COMPARISON, [])
    assert (found.title, found.recipes, found.classes) == ("ways", ["random", "chest_mae"], ["Mass", "Edema"])
    assert "| random | test_vit | 1.0 | 3 | 0.700 | 0.600 to 0.800 |" in found.table
    assert "| undefined | undefined to undefined |" in found.table and found.table.endswith("* Only phantoms.")


def test_without_a_comparison_nothing_is_told():
    assert markdown({}) == ""
    assert shown({"runs": [{"recipe": "a"}, {"recipe": "a"}]}, {}, ["Mass"]).recipes == ["a"]


@pytest.fixture
def online(monkeypatch, tmp_path):
    """Weights & Biases as far as a workspace needs it; the views that it holds."""
    from wandb_workspaces.workspaces import internal

    views = {}

    def upsert(view):
        views[view.name] = view
        return {"upsertView": {"view": {"name": view.name, "id": f"id-{view.name}"}}}

    monkeypatch.setattr(internal, "upsert_view2", upsert)
    monkeypatch.setattr(internal.View, "from_name", classmethod(lambda cls, entity, project, name: views[name]))
    monkeypatch.setattr("wandb_workspaces.workspaces.interface.get_app_url", lambda api: "https://example.org")
    monkeypatch.setattr("wandb.Api", lambda: None)
    monkeypatch.setattr("xrayssl.loggers.logged_in", lambda: True)
    monkeypatch.setenv("WANDB_SILENT", "true")
    return views


@pytest.fixture
def study(tmp_path):
    (tmp_path / "comparison.json").write_text(json.dumps(COMPARISON))
    return str(tmp_path)


def test_a_second_time_the_same_workspace_is_updated_unless_a_new_one_is_asked_for(online, study, capsys):
    words = ["dashboard", study, "--wandb", "--entity", "team"]
    assert [main(words), main(words)] == [0, 0]
    assert len(online) == 1
    assert main([*words, "--new"]) == 0
    assert len(online) == 2
    urls = capsys.readouterr().out.split()
    assert urls[0] == urls[1] != urls[2] and urls[0].startswith("https://example.org/team/xrayssl")


def test_a_refusal_of_the_service_is_one_sentence(monkeypatch):
    from wandb_workspaces.workspaces import internal

    def refused(view):
        raise ValueError("permission denied")

    monkeypatch.setattr(internal, "upsert_view2", refused)
    with pytest.raises(UserError, match="did not save the workspace: permission denied"):
        workspace.save(build(Shown("a"), "e", "p"))


def test_without_leave_nothing_goes_online(study, capsys):
    assert main(["dashboard", study]) == 2
    assert "add --wandb if it may" in capsys.readouterr().err


def test_without_a_login_it_says_what_to_do(study, monkeypatch, capsys):
    monkeypatch.setattr("xrayssl.loggers.logged_in", lambda: False)
    assert main(["dashboard", study, "--wandb"]) == 2
    assert "run `wandb login`, or set WANDB_API_KEY" in capsys.readouterr().err


def test_without_the_library_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "wandb_workspaces.workspaces", None)
    with pytest.raises(UserError, match="pip install wandb-workspaces"):
        workspace.library()


def test_a_folder_without_a_study_is_refused_by_name(tmp_path, capsys):
    assert main(["dashboard", str(tmp_path / "no"), "--wandb"]) == 2
    assert "there is neither a study.json nor a comparison.json" in capsys.readouterr().err
