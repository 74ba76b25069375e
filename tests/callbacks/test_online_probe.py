import csv
import random

import pytest
import torch
from lightning.pytorch import Callback
from phantoms import small
from watching import data, masked, one_and_two, trained

from xrayssl.callbacks import OnlineProbe
from xrayssl.callbacks.online_probe import chosen
from xrayssl.errors import UserError
from xrayssl.methods import RotationProxy
from xrayssl.probing import probe


def logged(folder):
    with (folder / "metrics.csv").open() as lines:
        return [row for row in csv.DictReader(lines) if row.get("probe/linear_auroc")]


def test_the_start_every_second_and_the_last_epoch_are_probed(tmp_path):
    trained(tmp_path, [OnlineProbe(every=2)])
    rows = logged(tmp_path)
    assert [row["epoch"] for row in rows] == ["", "1", "2"]
    assert rows[0]["probe/films"] == str(float(len(data().manifest.rows("val"))))
    assert all(0 <= float(row[f"probe/{kind}_auroc"]) <= 1 for row in rows for kind in ("knn", "linear"))


class Draws(Callback):
    """What each step finds of the random numbers, and whether anything is left in evaluation."""

    def __init__(self):
        self.seen = []

    def on_train_batch_start(self, trainer, pl_module, *args):
        self.seen.append((torch.get_rng_state(), random.getstate(), pl_module.backbone.training))


@pytest.mark.parametrize("model", [masked, lambda: RotationProxy(backbone="test_resnet", img_size=32)])
def test_training_is_bitwise_the_same_with_and_without(tmp_path, model):
    states, draws = [], []
    for name, callbacks in (("with", [OnlineProbe(every=1)]), ("without", [])):
        torch.manual_seed(1)
        draws.append(Draws())
        states.append(trained(tmp_path / name, [*callbacks, draws[-1]], model()).state_dict())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[1])
    for one, other in zip(draws[0].seen, draws[1].seen, strict=True):
        assert torch.equal(one[0], other[0]) and one[1] == other[1] and one[2] is other[2] is True


def test_the_figures_are_those_of_a_plain_computation_on_central_cuts_and_never_of_test_films(tmp_path):
    films, callback = data(), OnlineProbe(every=1)
    read = []
    plain, films.central = films.central, lambda rows: read.extend(rows) or plain(rows)
    model = trained(tmp_path, [callback], films=films, precision="bf16-mixed")
    assert set(read) == {*films.manifest.rows("train"), *films.manifest.rows("val")}
    sides = []
    for split in ("train", "val"):
        batch = [films._films("test", 0)[0, row] for row in films.manifest.rows(split)]
        image = model.backbone.normalize(torch.cat([part["image"] for part in batch]))
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            feature = model.eval().backbone(image).float().mean(dim=(2, 3))
        sides += [feature, torch.cat([part["label"] for part in batch])]
    expected = probe(*sides, "multiclass", films.classes)
    row = logged(tmp_path)[-1]
    assert float(row["probe/linear_auroc"]) == pytest.approx(expected.linear, abs=0.02)
    assert float(row["probe/knn_auroc"]) == pytest.approx(expected.knn, abs=0.02)


def test_averaged_weights_are_probed_where_there_are_any(tmp_path):
    seen = []

    class Watch(OnlineProbe):
        def _features(self, model, images):
            seen.append(model.backbone.network.patch_embed.proj.weight.detach().clone())
            return super()._features(model, images)

    model = trained(tmp_path, [Watch(every=5)], masked(ema=0.9))
    assert torch.equal(seen[-1], model.backbone.network.patch_embed.proj.weight)


def test_a_compiled_network_is_probed_without_compiling_anew(tmp_path, monkeypatch):
    model = RotationProxy(backbone="test_resnet", img_size=32)
    model.backbone._compiled_call_impl = None

    def refuse(*args):
        raise AssertionError

    image = torch.zeros(2, 1, 32, 32, dtype=torch.uint8)
    probing = OnlineProbe()
    probing._data = data()
    model.backbone._compiled_call_impl = refuse
    assert probing._features(model, image).shape == (2, model.backbone.width)


def test_other_labelled_films_can_be_given(tmp_path):
    callback = OnlineProbe(every=1, corpora=small("shoulder", 30))
    trained(tmp_path, [callback], epochs=1)
    assert len(callback._data.manifest) == 30
    assert callback._data.img_size == (32, 32)


@pytest.mark.parametrize("most", range(2, 30))
def test_a_cap_takes_whole_patients_in_an_order_that_more_films_do_not_change(most):
    manifest = data(60).manifest
    patients = manifest.table["patient"]
    few, more, all_rows = (set(chosen(manifest, "train", cap)) for cap in (most, 2 * most, None))
    assert few <= more <= all_rows == set(manifest.rows("train"))
    largest = patients[sorted(all_rows)].value_counts().max()
    assert most - largest < len(few) <= most
    assert all(set(patients.index[patients == name]) & all_rows <= few for name in patients[sorted(few)])


def test_films_without_labels_are_refused(tmp_path):
    films = data()
    object.__setattr__(films.manifest, "task", None)
    with pytest.raises(UserError, match="OnlineProbe needs labels"):
        trained(tmp_path, [OnlineProbe()], films=films)


def test_films_of_one_class_alone_are_refused(tmp_path):
    films = data()
    films.manifest.table[films.classes] = 0.0
    films.manifest.table[films.classes[0]] = 1.0
    with pytest.raises(UserError, match="no class has films with and without it in both"):
        trained(tmp_path, [OnlineProbe()], films=films)


@pytest.mark.parametrize("options", [{"every": 0}, {"films": 0}, {"labels": ["A"]}])
def test_options_that_make_no_sense_are_refused(options):
    with pytest.raises(UserError, match="OnlineProbe: "):
        OnlineProbe(**options)


@pytest.mark.filterwarnings("ignore:It is recommended to use")  # of the training loss
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # fork in a process with threads
def test_two_processes_log_what_one_does(tmp_path):
    one_and_two(tmp_path, lambda: OnlineProbe(every=1))
    first = [logged(tmp_path / name)[0] for name in ("one", "two")]
    assert first[0]["probe/linear_auroc"] == first[1]["probe/linear_auroc"]
    assert len(logged(tmp_path / "two")) == 2
