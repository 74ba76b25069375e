import copy

import pytest
from wandb_file import held, sent

from xrayssl.dashboards import summary
from xrayssl.errors import UserError
from xrayssl.loggers import Wandb

CURVE = {"x": [0.0, 0.5, 1.0], "y": [0.0, 0.8, 1.0]}
ROW = {"network": "test_vit", "fraction": 1.0, "seeds": [0, 1]}
COMPARISON = {
    "version": 1,
    "title": "ways",
    "reference": "random",
    "metrics": ["auroc_macro", "auroc/Mass"],
    "recipes": [
        {"recipe": "random", **ROW, "metrics": {"auroc_macro": {"value": 0.7, "low": 0.6, "high": 0.8, "sd": 0.01}}},
        {"recipe": "mae", **ROW, "metrics": {"auroc_macro": {"value": 0.9, "low": 0.8, "high": 1.0, "sd": 0.02},
                                             "auroc/Mass": {"value": None, "low": None, "high": None, "sd": None}}},
    ],
    "differences": [{"recipe": "mae", "reference": "random", "network": "test_vit", "fraction": 1.0,
                     "metric": "auroc_macro", "value": 0.2, "low": 0.1, "high": 0.3, "t": 3.0, "df": 1.0, "p": 0.04,
                     "p_holm": 0.08, "effect": 2.0}],
    "curves": {"Mass": [{"recipe": name, **ROW, "seed": seed, "roc": CURVE, "pr": CURVE}
                        for name in ("random", "mae") for seed in (0, 1)]},
    "runs": [{"run": "runs/stages/finetune"}],
    "notes": ["Only phantoms."],
}  # fmt: skip


def logged(folder, monkeypatch, **options):
    import wandb

    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(folder / "keys"))
    wandb.teardown()
    summary.log(COMPARISON, folder, Wandb(**options))
    wandb.teardown()
    return held(folder)


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    folder = tmp_path_factory.mktemp("comparison")
    (folder / "comparison.html").write_text("<svg>forest</svg>")
    with pytest.MonkeyPatch.context() as patch:
        return logged(folder, patch)


def test_a_comparison_is_one_run_in_the_group_of_its_study(found):
    assert (found["run"].run_group, found["run"].job_type) == ("ways", "comparison")
    assert found["config"]["reference"] == "random"
    assert "curves" not in found["config"]


def test_every_recipe_has_its_figure_with_its_interval_for_bars(found):
    assert (found["summary"]["auroc_macro/mae"], found["summary"]["auroc_macro_low/mae"]) == (0.9, 0.8)
    assert "auroc/Mass/mae" not in found["summary"]


def test_both_tables_and_the_page_are_there(found):
    kinds = {name.split("/")[-1].split("_")[0] for name in found["files"] if "media" in name}
    assert kinds == {"recipes", "differences", "page"}
    assert found["summary"]["comparison/recipes.nrows"] == 2


def test_the_tables_hold_every_metric_and_every_p():
    found = summary.tables(COMPARISON)
    names, (random, mae) = found["recipes"]
    assert dict(zip(names, mae, strict=True))["auroc_macro_high"] == 1.0
    assert dict(zip(names, random, strict=True))["seeds"] == "0, 1"
    names, (row,) = found["differences"]
    assert dict(zip(names, row, strict=True))["p_holm"] == 0.08


def test_curves_are_the_mean_over_seeds_of_every_recipe(found):
    rows = [row for row in found["history"] if "comparison_roc/false_positive_rate" in row]
    assert len(rows) == 101
    assert rows[50]["comparison_roc/Mass, mae"] == pytest.approx(0.8)


def test_networks_and_fractions_are_named_where_there_are_several():
    other = copy.deepcopy(COMPARISON)
    other["recipes"][1]["network"] = "resnet18"
    assert [summary.label(other, row) for row in other["recipes"]] == ["random, test_vit", "mae, resnet18"]


def test_privacy_leaves_out_the_page_and_every_path(tmp_path, monkeypatch):
    (tmp_path / "comparison.html").write_text("<svg>forest</svg>")
    logged(tmp_path, monkeypatch, privacy=True)
    content = sent(tmp_path)
    assert not any("page" in name for name in content)
    assert any(b"chest" in part or b"random" in part for name, part in content.items() if "recipes" in name)
    for secret in (str(tmp_path), "runs/stages", "/.local/share"):
        assert not any(secret.encode() in part for part in content.values())


def test_disabled_it_says_so(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "disabled")
    with pytest.raises(UserError, match="Weights & Biases is disabled"):
        summary.log(COMPARISON, tmp_path, Wandb())
