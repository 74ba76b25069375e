import copy
import hashlib
import importlib.util
import json
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from classifiers import films, fitted, measured

from xrayssl import classifier
from xrayssl.cli import main
from xrayssl.errors import UserError
from xrayssl.export import onnx_graph
from xrayssl.export.plain import plain
from xrayssl.methods import Finetune

HAS_ONNX = all(importlib.util.find_spec(name) for name in onnx_graph.PACKAGES)
needs_onnx = pytest.mark.skipif(not HAS_ONNX, reason="the extra `onnx` is not installed")
FAMILIES = ["resnet18", "densenet121", "convnext_atto", "test_vit", "vit_small_patch14_reg4_dinov2"]
ALONE = """
import sys
import numpy, torch
{code}
with torch.no_grad():
    numpy.save("logit.npy", model(torch.from_numpy(numpy.load("image.npy"))).numpy())
assert not any(name.startswith("xrayssl") for name in sys.modules)
"""


def network(backbone, size=56, **kwargs):
    torch.manual_seed(0)
    method = Finetune(classes=["a", "b", "c"], task="multilabel", backbone=backbone, img_size=size, **kwargs)
    torch.nn.init.normal_(method.head.linear.weight, std=0.5)
    torch.nn.init.normal_(method.head.linear.bias)
    return method.eval()


def drawn(method, count=3):
    return torch.randn(count, 1, *method.backbone.img_size, generator=torch.Generator().manual_seed(2))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A ConvNeXt, whose head in timm has a norm that ours has not, tested."""
    folder = tmp_path_factory.mktemp("run")
    return measured(fitted(folder, f"{{folder: {films(folder / 'films')}}}", "backbone: convnext_atto"))


@pytest.fixture(scope="module")
def vit(tmp_path_factory):
    return fitted(tmp_path_factory.mktemp("vit"), options="backbone: test_vit")


@pytest.fixture(scope="module")
def exported(run):
    assert main(["export", "--run", str(run)]) == 0
    return run / "export"


def complaint(capsys, *words):
    capsys.readouterr()
    assert main(["export", *map(str, words)]) == 2
    return capsys.readouterr().err


@pytest.mark.parametrize("size", [56, (56, 112)])
@pytest.mark.parametrize("backbone", FAMILIES)
def test_timms_network_gives_the_same_logits(backbone, size):
    method = network(backbone, (64, 96) if backbone == "test_vit" else size)
    found = plain(method)
    with torch.no_grad():
        expected, given = method(drawn(method)), found.network(drawn(method))
    assert expected.abs().max() > 0.1
    torch.testing.assert_close(given, expected, atol=1e-5, rtol=1e-5)


def test_the_batch_norm_of_a_linear_probe_goes_into_the_linear_layer():
    method = network("resnet18", mode="linear")
    method.head.norm.running_mean.normal_()
    method.head.norm.running_var.uniform_(0.5, 2)
    with torch.no_grad():
        torch.testing.assert_close(plain(method).network(drawn(method)), method(drawn(method)), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("backbone", "options", "reason"),
    [
        ("test_vit", {"pooling": "attentive"}, "attentive pooling"),
        ("resnet18", {"head_hidden": 8}, "a hidden layer"),
        ("efficientnet_b0", {}, "between its last map and its classifier"),
    ],
)
def test_what_timm_cannot_hold_is_refused_in_a_sentence(backbone, options, reason):
    with pytest.raises(UserError, match=reason):
        plain(network(backbone, 64, **options))


def test_weights_that_say_something_else_are_not_written(monkeypatch):
    method = network("test_vit", 64)
    wrong = ({"global_pool": "token"},)  # the class token, as timm has it by default
    monkeypatch.setattr("xrayssl.export.plain.HEADS", wrong)
    with pytest.raises(UserError, match="cannot be written for timm alone"):
        plain(method)


@pytest.mark.parametrize("name", ["run", "vit"])
def test_the_lines_of_the_page_load_it_in_a_process_without_xrayssl(name, request, tmp_path):
    run, folder = request.getfixturevalue(name), tmp_path / "out"
    assert main(["export", "--run", str(run), "--out", str(folder)]) == 0
    method = classifier.load(run).method
    image = drawn(method)
    np.save(folder / "image.npy", image.numpy())
    code = re.search(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL)[1]
    command = [sys.executable, "-W", "ignore", "-c", ALONE.format(code=code)]
    subprocess.run(command, cwd=folder, check=True, env={"OMP_NUM_THREADS": "1", "PATH": ""}, timeout=300)
    with torch.no_grad():
        np.testing.assert_allclose(np.load(folder / "logit.npy"), method(image).numpy(), atol=1e-5)


def test_timm_reads_the_folder_of_a_vit_as_one_of_its_own(vit, tmp_path):
    import timm

    assert main(["export", "--run", str(vit), "--out", str(tmp_path / "out")]) == 0
    theirs = timm.create_model(f"local-dir:{tmp_path / 'out'}", pretrained=True).eval()
    method = classifier.load(vit).method
    with torch.no_grad():
        torch.testing.assert_close(theirs(drawn(method)), method(drawn(method)), atol=1e-5, rtol=1e-5)


def test_the_configuration_says_what_a_film_must_be(run, exported):
    content = json.loads((exported / "config.json").read_text())
    model = classifier.load(run)
    assert content["label_names"] == ["A", "B"] and content["pretrained_cfg"]["input_size"] == [1, 64, 64]
    assert content["pretrained_cfg"]["mean"] == model.method.backbone.mean.tolist()
    assert content["xrayssl"]["operating"] == model.operating is not None


def test_the_page_tells_every_step_before_the_network(exported):
    page = (exported / "README.md").read_text()
    for words in ("from percentile 1 to 99", "empty borders", "64 x 64 pixels", "circle", "softmax"):
        assert words in page
    assert "CLAHE" not in page and "onnx" not in page


def test_the_model_card_says_what_the_run_recorded(run, exported):
    card, figures = (exported / "MODEL_CARD.md").read_text(), json.loads((run / "test" / "metrics.json").read_text())
    record = json.loads((run / "run.json").read_text())
    entry = figures["metrics"]["auroc_macro"]
    assert f"| auroc_macro | {entry['value']:.3f} ({entry['low']:.3f} to {entry['high']:.3f}) |" in card
    for name, least in figures["operating"]["threshold"].items():
        assert f"| {name} | {least:.4f} |" in card
    for words in (record["data"]["checksum"], "convnext_atto", "max_epochs: 1", "random weights", "To be filled in"):
        assert words in card
    for name, what in (("train", "to learn from"), ("val", "to choose the checkpoint"), ("test", "to test")):
        assert f"{record['data']['splits'][name]} {what}" in card
    for title in ("Intended use", "Films it saw", "Recipe", "Operating point", "Limits", "Lineage", "Licence"):
        assert f"## {title}\n" in card


def test_the_model_card_names_the_parents_of_the_weights(vit, tmp_path):
    start = f"backbone: test_vit, init_from: {vit}"
    assert main(["export", "--run", str(fitted(tmp_path, options=start)), "--out", str(tmp_path / "out")]) == 0
    checksum = hashlib.sha256((vit / "backbone.safetensors").read_bytes()).hexdigest()
    card = (tmp_path / "out" / "MODEL_CARD.md").read_text()
    assert f"1. Finetune: `{checksum}`" in card and "random weights" not in card


def test_a_card_of_a_run_without_a_test_says_that_validation_films_flatter(vit, tmp_path):
    assert main(["export", "--run", str(vit), "--out", str(tmp_path / "out")]) == 0
    card = (tmp_path / "out" / "MODEL_CARD.md").read_text()
    assert "the figures are too good" in card and "rendered, not patients" in card


def test_a_checkpoint_that_was_selected_on_test_films_is_marked(run, tmp_path):
    other = shutil.copytree(run, tmp_path / "copy", ignore=shutil.ignore_patterns("export"))
    figures = json.loads((other / "test" / "metrics.json").read_text())
    (other / "test" / "metrics.json").write_text(json.dumps(figures | {"selected_on": "test"}))
    assert main(["export", "--run", str(other)]) == 0
    assert "selected on these very test films" in (other / "export" / "MODEL_CARD.md").read_text()


@needs_onnx
@pytest.mark.parametrize(("backbone", "options"), [("test_resnet", {}), ("test_vit", {"pooling": "attentive"})])
def test_onnxruntime_says_the_same_of_any_number_of_films(backbone, options, tmp_path):
    import onnxruntime

    method = network(backbone, 64, **options)
    assert onnx_graph.write(method, tmp_path / "model.onnx") < 1e-5
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"))
    for count in (1, 7):
        grey = torch.randint(0, 256, (count, 1, 64, 64), dtype=torch.uint8)
        (found,) = session.run(["probability"], {"image": (grey / 255).numpy()})
        with torch.no_grad():
            np.testing.assert_allclose(found, method.measured(grey)[1].numpy(), atol=1e-4)


@needs_onnx
def test_a_graph_that_says_something_else_is_not_written(tmp_path, monkeypatch):
    method, true = network("test_resnet", 64), onnx_graph._exported

    def spoilt(graph, image):
        other = copy.deepcopy(graph)
        with torch.no_grad():
            other.method.head.linear.bias += 0.01
        return true(other, image)

    monkeypatch.setattr(onnx_graph, "_exported", spoilt)
    with pytest.raises(UserError, match="differs from the network"):
        onnx_graph.write(method, tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []


@needs_onnx
def test_a_head_that_timm_cannot_hold_goes_out_as_onnx_alone(tmp_path, capsys):
    run = fitted(tmp_path, options="backbone: test_resnet, head_hidden: 8")
    assert "`--onnx` writes it whole" in complaint(capsys, "--run", run)
    assert not (run / "export").exists()
    assert main(["export", "--run", str(run), "--onnx"]) == 0
    assert {path.name for path in (run / "export").iterdir()} == {
        "model.onnx", "config.json", "README.md", "MODEL_CARD.md",
    }  # fmt: skip
    assert "Without model.safetensors" in capsys.readouterr().err


def test_every_mistake_is_told_at_once(tmp_path, monkeypatch, capsys):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "onnx" else find(name, *rest))
    said = complaint(capsys, "--onnx", "--out", tmp_path)
    assert "--run RUN" in said and "nothing is overwritten" in said and "--onnx needs onnx: pip install" in said


def test_a_second_export_overwrites_nothing(run, exported, capsys):
    before = {path.name: path.stat().st_mtime_ns for path in exported.iterdir()}
    assert "nothing is overwritten" in complaint(capsys, "--run", run)
    assert {path.name: path.stat().st_mtime_ns for path in exported.iterdir()} == before
