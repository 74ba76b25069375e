import pytest

from xrayssl.comparison.plots import Panel, reach, span, styles


def test_an_axis_of_shares_ends_at_one():
    assert span([0.95, 0.99]).marks[-1] == 1.0
    assert span([0.3, 1.4]).marks[-1] >= 1.4  # a Brier score of several classes


def test_an_axis_of_differences_holds_zero():
    marks = span([0.04, 0.06], share=False, zero=True).marks
    assert marks[0] <= 0 and marks[-1] >= 0.06


def test_one_very_wide_interval_does_not_flatten_the_others():
    narrow = [{"value": 0.1, "low": 0.05, "high": 0.15}] * 3
    assert max(reach([*narrow, {"value": 0.1, "low": -0.9, "high": 1.1}])) == pytest.approx(0.25)
    assert max(reach(narrow)) == pytest.approx(0.15)


def test_recipes_have_different_colours_or_dashes():
    content = {"recipes": [{"recipe": f"r{k}"} for k in range(25)], "reference": "r3"}
    assert len(set(styles(content).values())) == 25


def test_what_lies_outside_a_panel_is_drawn_at_its_edge():
    panel = Panel(100, 100, [0, 1], [0, 1])
    assert panel.up(2) == panel.up(1) == panel.top and panel.across(1) == panel.width - panel.right
