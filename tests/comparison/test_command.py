import base64
import csv
import hashlib
import html
import io
import json
import re
import shutil
import subprocess

import pytest
from predicted import study, trained

from xrayssl.comparison import tested
from xrayssl.comparison.command import compare_command
from xrayssl.comparison.exports import as_latex, as_markdown, as_text, tex
from xrayssl.errors import UserError

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
RECIPES = {"random": 0.3, "mae_<x>": 1.0, "rotation": 0.5}


@pytest.fixture(autouse=True, scope="module")
def quick():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tested.measure, "__defaults__", (64,))
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = study(tmp_path_factory.mktemp("study"), RECIPES, networks=("resnet18", "vit_tiny"), fractions=(0.1, 1.0))
    trained(made / "rotation-vit_tiny-1.0-2", "rotation", 2, 0.5, "vit_tiny", ["y"], selected_on="test")
    assert compare_command([str(made)]) == 0
    return made


@pytest.fixture(scope="module")
def page(folder):
    return (folder / "comparison.html").read_text()


@pytest.fixture(scope="module")
def content(folder):
    return json.loads((folder / "comparison.json").read_text())


@pytest.fixture(scope="module")
def single(tmp_path_factory):
    made = study(tmp_path_factory.mktemp("single"), RECIPES, seeds=(0,))
    compare_command([str(made)])
    return made


def driven(page, script, tmp_path):
    """The page after a script has used it, in a browser."""
    loose = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page)
    path = tmp_path / "page.html"
    path.write_text(loose.replace("</body>", f"<script>{script}</script></body>"))
    options = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom"]
    call = subprocess.run([CHROMIUM, *options, path.as_uri()], capture_output=True, text=True, timeout=60, check=True)
    return call.stdout


def shown(page, network):
    """Names of the recipes in the first table of a network, in order, and whether they are hidden."""
    table = page.split(f"<h4>{network}</h4>")[1].split("</table>")[0]
    rows = re.findall(r"<tr[^>]*data-recipe=[^>]*>", table)
    return [re.search('data-recipe="([^"]*)"', row)[1] for row in rows if "hidden" not in row]


def test_five_files_lie_in_the_folder_of_the_study(folder):
    assert {path.suffix for path in folder.glob("comparison.*")} == {".html", ".csv", ".md", ".tex", ".json"}


def test_the_page_fetches_nothing_and_allows_no_script_but_its_own(page):
    assert not re.search(r"https?:|<link|@import|url\(|src=", page)
    (script,) = re.findall(r"<script>(.*?)</script>", page, re.S)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert (
        f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
        in html.unescape(page)
    )


def test_names_are_escaped(page):
    assert "mae_<x>" not in page.replace("mae_<wbr>&lt;x", "") and "mae_&lt;x&gt;" in page


def test_every_headline_figure_stands_on_the_page_with_its_interval(page, content):
    for row in content["recipes"]:
        entry = row["metrics"]["auroc_macro"]
        assert f"{entry['value']:.3f}" in page and f"{entry['low']:.3f} to {entry['high']:.3f}" in page


def test_a_dagger_marks_what_was_selected_on_test_wherever_it_stands(page, folder, content):
    row = next(one for one in content["recipes"] if one["selected_on"] == "test")
    marked = f"{row['metrics']['auroc_macro']['value']:.3f}†"
    files = [page, (folder / "comparison.md").read_text(), as_text(content)]
    assert all(marked in text and "too good" in text for text in files)
    assert marked.replace("†", "$^\\dagger$") in (folder / "comparison.tex").read_text()
    rows = csv.DictReader(io.StringIO((folder / "comparison.csv").read_text()))
    assert {(one["recipe"], one["network"], one["fraction"]) for one in rows if one["selected_on"] == "test"} == {
        ("rotation", "vit_tiny", "1.0")
    }


def test_with_one_seed_there_is_no_p_no_order_and_no_sorting_by_figures(single):
    page, text = ((single / f"comparison.{end}").read_text() for end in ("html", "md"))
    tables = page.split("</header>")[1]
    assert re.findall(r"<button[^>]*>([^<]*)", tables.split("All figures")[0]) == ["Recipe"]
    assert shown(page, "resnet18")[:3] == [*map(lambda name: name.replace("<", "&lt;").replace(">", "&gt;"), RECIPES)]
    assert "within-checkpoint only" in text and "not ranked" in text and not re.search(r"p (=|<)", text)
    assert "better" not in page.split("</header>")[0].split("</style>")[1]


def test_with_one_seed_no_interval_is_said_to_hold_seeds(single):
    files = [path for path in single.glob("comparison.*") if path.suffix != ".json"]
    assert len(files) == 4 and all("hold seeds and patients" not in path.read_text() for path in files)


def test_phantoms_are_told_below_every_table(content):
    for written in (as_markdown, as_latex, as_text):
        told = ["drawn by the computer" in written(content | {"phantoms": one}) for one in (True, False)]
        assert told == [True, False]


def test_with_several_seeds_the_best_comes_first(page, content):
    assert shown(page, "vit_tiny")[0] == "mae_&lt;x&gt;"
    assert content["tables"][0]["ranked"]


def test_the_csv_holds_every_metric_and_both_intervals(folder, content):
    rows = list(csv.DictReader(io.StringIO((folder / "comparison.csv").read_text())))
    assert len(rows) == sum(len(row["metrics"]) for row in content["recipes"])
    one = next(row for row in rows if (row["recipe"], row["metric"]) == ("mae_<x>", "auroc_macro"))
    assert float(one["low"]) < float(one["value"]) < float(one["high"]) and one["bootstrap_low"] and one["p_holm"]


def test_latex_has_no_letter_that_latex_would_read(folder):
    text = (folder / "comparison.tex").read_text()
    assert "\\toprule" in text and "mae\\_$<$x$>$" in text and text.count("{") == text.count("}")
    assert tex("50 % & _") == "50 \\% \\& \\_" and not re.search("[^\x00-\x7f]", text)


def test_markdown_tables_have_as_many_cells_as_titles(folder):
    rows = [line for line in (folder / "comparison.md").read_text().splitlines() if line.startswith("|")]
    assert {row.replace("\\|", "").count("|") for row in rows} == {7} and "mae\\_\\<x\\>" in "".join(rows)


def test_a_headline_of_a_class_with_a_blank_in_its_name_has_its_rows(content):
    rows = [{**row, "metrics": {"auroc/No Finding": row["metrics"]["auroc_macro"]}} for row in content["recipes"]]
    assert "0." in as_markdown(content | {"headline": "auroc/No Finding", "recipes": rows}).partition("---")[2]


def test_what_is_not_sure_is_not_claimed(tmp_path):
    made = study(tmp_path, {"random": 0.5, "same": 0.5}, seeds=(0, 1))
    compare_command([str(made)])
    assert "it is not shown that same differs from random" in (made / "comparison.html").read_text()


def test_wandb_options_are_checked_before_anything_is_read():
    with pytest.raises(UserError) as refused:
        compare_command(["nowhere", "--wandb.mode", "sometimes"])
    assert len(refused.value.messages) == 2 and "add --wandb" in refused.value.messages[1]


@pytest.mark.skipif(not CHROMIUM, reason="needs Chromium")
def test_a_click_sorts_and_another_turns_the_order(page, content, tmp_path):
    table = '[data-network="vit_tiny"] table.recipes'
    click = f"document.querySelectorAll('{table} th button')[1].click();"
    values = {row["recipe"]: row["metrics"]["auroc_macro"]["value"] for row in content["recipes"]
              if (row["network"], row["fraction"]) == ("vit_tiny", 1.0)}  # fmt: skip
    upward = [name.replace("<", "&lt;").replace(">", "&gt;") for name in sorted(values, key=values.get)]
    assert shown(driven(page, click, tmp_path), "vit_tiny") == upward
    assert shown(driven(page, click * 2, tmp_path), "vit_tiny") == upward[::-1]


@pytest.mark.skipif(not CHROMIUM, reason="needs Chromium")
def test_filters_hide_recipes_networks_and_metrics(page, tmp_path):
    at_first = driven(page, "", tmp_path)
    assert len(shown(at_first, "vit_tiny")) == 3 < len(shown(page, "vit_tiny"))  # the headline alone
    script = """var form = document.querySelector('.filters'), change = new Event('change', {bubbles: true});
      form.querySelector('input[value=rotation]').checked = false;
      form.querySelector('select[name=network]').value = 'vit_tiny'; form.dispatchEvent(change);"""
    after = driven(page, script, tmp_path)
    assert {*shown(after, "vit_tiny")} == {"random", "mae_&lt;x&gt;"}
    assert re.search(r'<div data-network="resnet18" hidden', after)


@pytest.mark.skipif(not CHROMIUM, reason="needs Chromium")
def test_the_policy_lets_the_script_run(page, tmp_path):
    path = tmp_path / "page.html"
    path.write_text(page)
    options = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom"]
    call = subprocess.run([CHROMIUM, *options, path.as_uri()], capture_output=True, text=True, timeout=60, check=True)
    assert '<html lang="en" class="live">' in call.stdout


@pytest.mark.skipif(not CHROMIUM, reason="needs Chromium")
@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_is_wider_than_the_screen(page, tmp_path, width):
    frame = f"""var frame = document.createElement('iframe'); frame.style.width = '{width}px';
      var html = document.documentElement.outerHTML.replace(/<scr[i]pt>[^]*?<.scr[i]pt>/g, '');
      document.body.appendChild(frame);
      frame.contentDocument.write('<!doctype html>' + html); frame.contentDocument.close();
      document.title = frame.contentDocument.documentElement.scrollWidth;"""
    found = int(re.search(r"<title>(\d+)", driven(page, frame, tmp_path))[1])
    assert found <= width
