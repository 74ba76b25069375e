"""The main job, end to end, through the front door."""

import json
import re

from xrayssl import cli


def test_the_demo_pretrains_hands_over_tests_and_makes_a_page(tmp_path, capsys):
    assert cli.main(["demo", "--quick", "--out", str(tmp_path / "demo")]) == 0
    page = tmp_path / "demo" / "report.html"
    assert capsys.readouterr().out.strip().endswith(str(page))
    text = page.read_text()
    assert all(word in text for word in ("MAEPretrain", "Finetune", "data:image/", "phantom"))
    figures = json.loads((tmp_path / "demo" / "shoulder_finetune" / "test" / "metrics.json").read_text())
    area = figures["metrics"]["auroc_macro"]
    value, low, high = (re.escape(f"{area[name]:.3f}") for name in ("value", "low", "high"))
    assert re.search(rf"macro AUROC of {value} \(95\s% interval {low} to {high}\)", text)
    child = json.loads((tmp_path / "demo" / "shoulder_finetune" / "run.json").read_text())
    assert len(child["parents"]) == 1
