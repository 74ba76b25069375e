"""What an offline run of Weights & Biases holds, read back from its file."""

import json
import re
import socket

import numpy as np
import pytest
from PIL import Image
from wandb_file import held, records, sent
from wandb_server import serving, synced

from xrayssl.cli import main
from xrayssl.handoff import sha256

MAE = """# Tiny
model:
  class_path: MAEPretrain
  init_args: {backbone: test_vit, decoder_width: 32, decoder_heads: 2, decoder_depth: 1, optim: {warmup_epochs: 0}}
data:
  class_path: ChestXrayDataModule
  init_args: {img_size: 64, batch_size: 4, num_workers: 0, corpora: {phantom: {films: 24, size: 64}}}
trainer:
  max_epochs: 2
  limit_train_batches: 1
  accelerator: cpu
  enable_progress_bar: false
  callbacks: [{class_path: xrayssl.callbacks.Reconstructions, init_args: {films: 2, every: 1}}]
"""
FINETUNE = """# Tiny
model: {class_path: Finetune, init_args: {backbone: test_vit, optim: {warmup_epochs: 0, layer_decay: null}}}
data: {class_path: ChestXrayDataModule, init_args: {img_size: 64, batch_size: 8, num_workers: 0}}
trainer: {max_epochs: 1, limit_train_batches: 1, accelerator: cpu, enable_progress_bar: false}
"""
MACHINE = {"environment", "output_raw", "output", "stats", "alert"}
USER, WARD, PATIENT = "drschmidt", "ward7films", "meier1953"


def ran(patch, *words):
    """Runs a command with Weights & Biases offline, and lets its service write out what it holds."""
    import wandb

    for name, value in {"XRAYSSL_RUN": "", "PL_GLOBAL_SEED": "0"}.items():
        patch.setenv(name, value)
    patch.delenv("WANDB_MODE", raising=False)
    wandb.teardown()  # the service keeps the environment it was started in
    assert main([*words]) == 0
    wandb.teardown()


def kinds(run):
    return {record.WhichOneof("record_type") for record in records(run)}


def films(root):
    """Films of two classes in three splits; their names tell patients."""
    rng = np.random.default_rng(0)
    for number in range(24):
        split, name = ("train", "val", "test")[number % 3], "AB"[number // 3 % 2]
        path = root / split / name / f"{PATIENT}-{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (70, 70), dtype=np.uint8)).save(path)
    return root


@pytest.fixture(scope="module")
def chain(tmp_path_factory):
    """A pretraining, and a classifier from it that was tested, whose user allows pictures."""
    folder = tmp_path_factory.mktemp("chain")
    (folder / "mae.yaml").write_text(MAE)
    (folder / "classifier.yaml").write_text(FINETUNE)
    start = ["--model.init_from", str(folder / "mae"), "--data.corpora.folder", str(films(folder / "films"))]
    allowed = ["--wandb.films", "true", "--wandb.group", "recipe"]
    with pytest.MonkeyPatch.context() as patch:
        ran(patch, "fit", "--config", str(folder / "mae.yaml"), "--out", str(folder / "mae"), *allowed)
        ran(patch, "fit", "--config", str(folder / "classifier.yaml"), "--out", str(folder / "run"), *start, *allowed)
        ran(patch, "test", "--run", str(folder / "run"))
        ran(patch, "validate", "--run", str(folder / "run"))
    return folder


@pytest.fixture(scope="module")
def private(tmp_path_factory):
    """The same of a user with a name, with films that have names, where privacy is asked for."""
    home = tmp_path_factory.mktemp("home") / USER
    run, config = home / "runs" / "run", home / "classifier.yaml"
    data = films(home / WARD)
    config.write_text(FINETUNE)
    with pytest.MonkeyPatch.context() as patch:
        for name in ("USER", "LOGNAME", "USERNAME"):
            patch.setenv(name, USER)
        patch.setenv("HOME", str(home))
        patch.chdir(home)
        words = ["--wandb.privacy", "true", "--wandb.films", "true", "--data.corpora.folder", str(data)]
        ran(patch, "fit", "--config", str(config), "--out", str(run), *words)
        ran(patch, "test", "--run", str(run))
    return run


def test_a_run_is_filed_under_its_chain_its_stage_and_what_it_is_made_of(chain):
    found = held(chain / "mae")["run"]
    assert (found.project, found.run_group, found.job_type) == ("xrayssl", "recipe", "mae")
    assert list(found.tags) == ["MAEPretrain", "test_vit", "phantom", "seed 0"]


def test_a_test_is_a_job_of_its_own_in_the_group_of_its_training(chain):
    found = held(chain / "run" / "test")["run"]
    assert (found.run_group, found.job_type) == ("recipe", "test")


def test_the_configuration_is_there_as_it_was_resolved(chain):
    found = held(chain / "run")["config"]
    assert found["config"]["model"]["init_args"]["init_from"] == str(chain / "mae")
    assert found["config"]["trainer"]["max_epochs"] == 1
    assert (found["stage"], found["seed"], found["parents"]) == (
        "classifier", 0, [sha256(chain / "mae" / "backbone.safetensors")])  # fmt: skip
    assert found["data"]["films"] == 24


def test_the_curves_of_a_training_are_there_by_epoch(chain):
    rows = [row for row in held(chain / "mae")["history"] if "val/loss" in row]
    assert [row["epoch"] for row in rows] == [0, 1]
    assert all({"train/loss", "lr"} & set(row) or row["val/loss"] > 0 for row in rows)
    assert any("train/loss" in row for row in held(chain / "mae")["history"])


def test_a_parent_and_its_child_name_the_same_artifact_which_one_makes_and_the_other_uses(chain):
    (made,) = held(chain / "mae")["artifacts"]
    used, _ = held(chain / "run")["artifacts"]
    assert (made.name, made.type, made.digest) == (used.name, used.type, used.digest)
    assert (made.use_after_commit, used.use_after_commit) == (False, True)
    assert used.user_created  # so that a child which is synced first does not become the maker


def test_a_test_uses_the_weights_that_its_training_made(chain):
    _, made = held(chain / "run")["artifacts"]
    (used,) = [one for one in held(chain / "run" / "test")["artifacts"] if one.use_after_commit]
    assert used.digest == made.digest


def test_an_artifact_is_a_checksum_with_the_header_and_no_weights(chain):
    (made,) = held(chain / "mae")["artifacts"]
    (entry,) = made.manifest.contents
    checksum = sha256(chain / "mae" / "backbone.safetensors")
    assert (entry.path, entry.ref, entry.local_path) == ("backbone.safetensors", f"sha256:{checksum}", "")
    facts = json.loads(made.metadata)
    assert (facts["sha256"], facts["architecture"], facts["stage"]) == (checksum, "test_vit", "mae")
    assert held(chain / "mae")["summary"]["weights"] == checksum


def test_a_test_holds_every_figure_of_its_file_with_its_interval(chain):
    found = held(chain / "run" / "test")["summary"]
    figures = json.loads((chain / "run" / "test" / "metrics.json").read_text())["metrics"]
    known = {f"test/{name}": entry["value"] for name, entry in figures.items() if entry["value"] is not None}
    assert {name: found[name] for name in known} == pytest.approx(known)
    assert "test/auroc/A" in known and "test/auroc_macro" in known
    assert found["test_low/brier"] == figures["brier"]["low"]
    assert (found["test_films"], found["test_patients"]) == (8, 8)


def test_a_test_holds_roc_and_precision_recall_curves_of_every_class(chain):
    rows = held(chain / "run" / "test")["history"]
    for axis, names in {"test_roc/false_positive_rate": ("test_roc/A", "test_roc/B"),
                        "test_precision_recall/recall": ("test_precision_recall/A",)}.items():  # fmt: skip
        along = [row for row in rows if axis in row]
        assert [row[axis] for row in along] == pytest.approx(list(np.linspace(0, 1, 101)))
        assert all(0 <= row[name] <= 1 for row in along for name in names)


def test_a_validation_holds_the_same_of_its_films(chain):
    found = held(chain / "run" / "validate")
    assert found["run"].job_type == "validate"
    assert {"val/auroc_macro", "val_low/brier", "val_films"} <= set(found["summary"])
    assert sum("val_roc/A" in row for row in found["history"]) == 101


def test_curves_run_over_their_own_axis_and_stay_out_of_the_summary(chain):
    metrics = [record.metric for record in records(chain / "run" / "test") if record.HasField("metric")]
    (curve,) = [metric for metric in metrics if metric.name == "test_roc/A"]
    assert curve.step_metric == "test_roc/false_positive_rate"
    assert "test_roc/A" not in held(chain / "run" / "test")["summary"]


def test_pictures_of_films_are_there_where_the_user_allows_them(chain):
    assert sum("reconstruction" in name for name in held(chain / "mae")["files"]) == 2
    assert sum("overlays" in name for name in held(chain / "run" / "test")["files"]) == 8
    captions = [row["overlays.captions"] for row in held(chain / "run" / "test")["history"] if "overlays._type" in row]
    assert all(PATIENT in caption and "probability" in caption for (caption,) in captions)


def test_without_leave_no_picture_shows_a_film(tmp_path, monkeypatch):
    (tmp_path / "mae.yaml").write_text(MAE)
    ran(monkeypatch, "fit", "--config", str(tmp_path / "mae.yaml"), "--out", str(tmp_path / "run"))
    media = [name for name in sent(tmp_path / "run") if "media" in name]
    assert media and all("visible" in name for name in media)


def test_without_privacy_the_machine_is_told_as_ever(chain):
    assert kinds(chain / "run") >= {"environment", "output_raw"}
    assert held(chain / "run")["run"].host == socket.gethostname()
    assert any(str(chain).encode() in content for content in sent(chain / "run").values())


@pytest.mark.parametrize("part", ["", "test"])
@pytest.mark.parametrize("secret", [USER, WARD, PATIENT])
def test_privacy_sends_no_user_no_home_no_data_root_and_no_name_of_a_film(secret, part, private):
    assert {name for name, content in sent(private / part).items() if secret.encode() in content} == set()
    assert not any(secret in name for name in sent(private / part))


@pytest.mark.parametrize("part", ["", "test"])
def test_privacy_sends_neither_host_nor_machine_console_code_or_packages(part, private):
    alone = rb"(?<![A-Za-z0-9])" + re.escape(socket.gethostname().encode()) + rb"(?![A-Za-z0-9])"
    words = {name: content for name, content in sent(private / part).items() if not name.endswith(".png")}
    assert {name for name, content in words.items() if re.search(alone, content)} == set()
    assert kinds(private / part) & MACHINE == set()
    assert {name for name in sent(private / part) if "media" not in name and not name.endswith(".wandb")} == set()
    assert held(private / part)["run"].host == "private"
    assert not held(private / part)["run"].HasField("git")


def test_privacy_gives_patients_and_films_pseudonyms(private):
    rows = [row for row in held(private / "test")["history"] if "overlays.captions" in row]
    assert len(rows) == 8
    assert all(re.match(r"patient-\w{12}, film-\w{12}\. [AB]: ", row["overlays.captions"][0]) for row in rows)


def test_privacy_keeps_what_a_configuration_says_besides_paths(private):
    found = held(private)["config"]
    assert found["config"]["data"]["init_args"]["corpora"]["folder"].startswith("path-")
    assert found["config"]["model"]["init_args"]["backbone"] == "test_vit"


def test_weights_are_uploaded_where_that_is_asked_for(tmp_path, monkeypatch):
    (tmp_path / "mae.yaml").write_text(MAE)
    words = ["--out", str(tmp_path / "run"), "--wandb.artifacts", "true", "--trainer.max_epochs", "1"]
    ran(monkeypatch, "fit", "--config", str(tmp_path / "mae.yaml"), *words)
    _, model = held(tmp_path / "run")["artifacts"]
    assert (model.type, model.name) == ("model", "mae")
    assert model.manifest.contents[0].local_path == str(tmp_path / "run" / "backbone.safetensors")


def test_wandb_sync_uploads_what_the_file_holds_and_joins_parent_and_child(chain):
    with serving() as server:
        synced(server, chain / "mae")
        assert len(synced(server, chain / "run")) >= len(held(chain / "run")["history"])
    (used,) = [given["input"] for name, given in server.asked if name == "UseArtifact"]
    (made,) = [number for (name, _), number in server.artifacts.items() if name == f"backbone-{checksum(chain)[:16]}"]
    assert used["artifactID"] == made
    told = [given for name, given in server.asked if name == "UpsertBucket" and given.get("groupName")]
    assert {(given["groupName"], given["jobType"]) for given in told} == {("recipe", "mae"), ("recipe", "classifier")}


def test_under_privacy_wandb_sync_sends_nothing_that_tells_who_where_or_whose_films(private):
    with serving() as server:
        assert synced(server, private / "test")
    assert not [secret for secret in (USER, WARD, PATIENT) for body in server.bodies if secret.encode() in body]


def checksum(chain):
    return sha256(chain / "mae" / "backbone.safetensors")
