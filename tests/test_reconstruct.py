import shutil

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from xrayssl.callbacks.reconstructions import LINE, reconstruction_picture
from xrayssl.cli import main
from xrayssl.data.radiograph import read, window
from xrayssl.data.transforms import evaluation
from xrayssl.reconstruct import load

CONFIG = """# Tiny
model:
  class_path: {method}
  init_args: {{optim: {{warmup_epochs: 0}}, {options}}}
data:
  class_path: ChestXrayDataModule
  init_args:
    {{img_size: 64, batch_size: 4, num_workers: 0, window: percentile, limits: [1, 99], augment: {{circle: true}},
      corpora: {{phantom: {{films: 24, size: 48, seed: 2}}}}}}
trainer: {{max_epochs: 1, limit_train_batches: 2, limit_val_batches: 1, accelerator: cpu, enable_progress_bar: false}}
wandb: {{mode: disabled}}
"""
METHODS = {
    "MAEPretrain": "backbone: test_vit, decoder_width: 32, decoder_depth: 1, decoder_heads: 2, masking: {ratio: 0.75}",
    "MaskedCNNPretrain": "backbone: test_resnet, decoder_width: 128, masking: {ratio: 0.5}",
    "DVAE": "backbone: test_vit, codes: 8, code_width: 8",
    "Finetune": "backbone: test_vit",
}


def fitted(folder, method):
    (folder / "tiny.yaml").write_text(CONFIG.format(method=method, options=METHODS[method]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XRAYSSL_RUN", "")
        patch.setenv("PL_GLOBAL_SEED", "0")
        assert main(["fit", "--config", str(folder / "tiny.yaml"), "--out", str(folder / "run")]) == 0
    return folder / "run"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return fitted(tmp_path_factory.mktemp("mae"), "MAEPretrain")


@pytest.fixture
def film(tmp_path):
    grey = np.random.default_rng(0).integers(0, 4096, (90, 70), dtype=np.uint16)
    grey[20:60, 20:50] = 3000
    Image.fromarray(grey).save(tmp_path / "film.png")
    return tmp_path / "film.png"


def drawn(path):
    return cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)


def rows(path):
    """The four rows of a picture of one film of 64 px, which is drawn four times as large."""
    return drawn(path)[LINE + 8 + 2 :: 4, 96 + 2 :][:, : 4 * 64 : 4].reshape(4, 64, 64)


def complaint(capsys, *words):
    assert main(["reconstruct", *map(str, words)]) == 2
    return capsys.readouterr().err


def test_the_picture_is_that_of_the_trained_network_on_the_film_as_the_run_sees_films(run, film, capsys):
    assert main(["reconstruct", "--run", str(run), str(film), "--seed", "3"]) == 0
    path = run / "reconstruct" / "film-reconstruction.png"
    assert capsys.readouterr().out == f"{path}\n"
    method, _ = load(run / "checkpoints" / "last.ckpt")
    view = evaluation((64, 64), circle=True)(window(read(film, voi=False), "percentile", (1, 99)), seed=0)
    image = torch.from_numpy(view)[None, None]
    expected = reconstruction_picture(method, image, seed=3, side=224, title=["film.png"])
    assert (drawn(path) == expected).all()
    assert (rows(path)[0] == view).all()


def test_the_network_is_the_checkpoints_bit_for_bit(run):
    method, _ = load(run / "checkpoints" / "last.ckpt")
    state = torch.load(run / "checkpoints" / "last.ckpt")["state_dict"]
    assert state.keys() == method.state_dict().keys()
    assert all(torch.equal(value, state[name]) for name, value in method.state_dict().items())
    assert not method.training


@pytest.mark.parametrize(("ratio", "hidden"), [("0.5", 8), ("0.25", 4)])
def test_the_ratio_says_how_much_is_hidden_and_the_seed_what(run, film, tmp_path, ratio, hidden):
    sheets = []
    for seed in "01":
        words = ["--out", str(tmp_path / seed), "--ratio", ratio, "--seed", seed]
        assert main(["reconstruct", "--run", str(run), *words, str(film)]) == 0
        sheets.append(rows(tmp_path / seed / "film-reconstruction.png"))
    film_HW, seen_HW = sheets[0][:2]
    grey = seen_HW.reshape(4, 16, 4, 16) == round(255 * 0.5)
    assert grey.all(axis=(1, 3)).sum() == hidden
    assert (seen_HW == film_HW)[seen_HW != 128].all()
    assert (sheets[0][1] != sheets[1][1]).any()


def test_a_masked_convolutional_network_draws_too(tmp_path, film):
    run = fitted(tmp_path, "MaskedCNNPretrain")
    assert main(["reconstruct", "--backbone", str(run / "checkpoints" / "last.ckpt"), str(film)]) == 0
    assert drawn(run / "reconstruct" / "film-reconstruction.png").shape == (LINE + 8 + 4 * 256, 96 + 256)


def test_an_autoencoder_shows_films_painted_from_their_codes_and_says_so(tmp_path, film, capsys):
    run = fitted(tmp_path, "DVAE")
    capsys.readouterr()
    assert main(["reconstruct", "--run", str(run), str(film)]) == 0
    assert "DVAE hides nothing: the pictures show films painted from their codes." in capsys.readouterr().err
    film_HW, seen_HW, painted_HW, _ = rows(run / "reconstruct" / "film-reconstruction.png")
    assert (seen_HW == film_HW).all() and (painted_HW != film_HW).any()
    assert "--ratio 0.5: DVAE hides nothing" in complaint(capsys, "--run", run, "--ratio", "0.5", film)


def test_a_long_name_of_a_film_is_shortened_in_its_middle(run, film, tmp_path):
    long = film.rename(tmp_path / f"{'a' * 60}.png")
    assert main(["reconstruct", "--run", str(run), str(long), "--out", str(tmp_path)]) == 0
    assert drawn(tmp_path / f"{'a' * 60}-reconstruction.png").shape[1] == 96 + 256


def test_films_of_one_name_get_a_picture_each_and_none_is_overwritten(run, film, tmp_path):
    others = [tmp_path / name / "film.png" for name in "ab"]
    for path in others:
        path.parent.mkdir()
        shutil.copy(film, path)
    before = film.read_bytes()
    assert main(["reconstruct", "--run", str(run), str(film), *map(str, others), "--out", str(tmp_path)]) == 0
    names = {path.name for path in tmp_path.glob("*.png")}
    assert names == {"film.png", *(f"film{n}-reconstruction.png" for n in ("", "-2", "-3"))}
    assert film.read_bytes() == before


def test_an_encoder_without_its_decoder_is_refused(run, film, capsys):
    said = complaint(capsys, "--backbone", run / "backbone.safetensors", film)
    assert "this is the encoder alone" in said and said.count("\n") == 1


def test_a_run_that_hides_nothing_is_refused(tmp_path, film, capsys):
    run = fitted(tmp_path, "Finetune")
    capsys.readouterr()
    assert "Finetune hides nothing and fills nothing in" in complaint(capsys, "--run", run, film)


def test_every_film_that_cannot_be_read_is_named_and_nothing_is_drawn(run, film, tmp_path, capsys):
    broken = [tmp_path / "half.png", tmp_path / "text.jpg"]
    broken[0].write_bytes(film.read_bytes()[:300])
    broken[1].write_text("no film")
    said = complaint(capsys, "--run", run, film, *broken, "--out", tmp_path / "out")
    assert "half.png" in said and "text.jpg" in said and said.count("\n") == 2
    assert not (tmp_path / "out").exists()


def test_every_mistake_is_told_at_once(tmp_path, capsys):
    said = complaint(capsys, "--ratio", "1.5", tmp_path / "gone.png")
    assert [word in said for word in ("--run RUN", "between 0 and 1", "gone.png: there is no such film")] == [True] * 3


def test_a_film_that_cannot_be_read_is_told_with_the_mistakes_of_the_command_and_of_the_run(run, tmp_path, capsys):
    (tmp_path / "text.jpg").write_text("no film")
    said = complaint(capsys, "--ratio", "1.5", tmp_path / "text.jpg")
    assert "--run RUN" in said and "between 0 and 1" in said and "text.jpg" in said
    said = complaint(capsys, "--run", tmp_path / "gone", tmp_path / "text.jpg")
    assert "no such checkpoint" in said and "text.jpg" in said
    said = complaint(capsys, "--run", run, "--ratio", "0.99", tmp_path / "text.jpg")
    assert "--ratio 0.99" in said and "text.jpg" in said


def test_a_ratio_that_hides_everything_is_refused(run, film, capsys):
    assert "--ratio 0.99" in complaint(capsys, "--run", run, "--ratio", "0.99", film)


@pytest.mark.parametrize("name", ["gone", "gone.ckpt"])
def test_a_run_that_is_not_there_is_refused(name, tmp_path, film, capsys):
    assert "there is no such checkpoint" in complaint(capsys, "--run", tmp_path / name, film)


def test_a_checkpoint_of_another_program_or_without_its_config_is_refused(run, tmp_path, film, capsys):
    torch.save({"state_dict": {}}, tmp_path / "other.ckpt")
    assert "no checkpoint of a run" in complaint(capsys, "--backbone", tmp_path / "other.ckpt", film)
    shutil.copy(run / "checkpoints" / "last.ckpt", tmp_path / "last.ckpt")
    assert "config.yaml: there is no such file" in complaint(capsys, "--backbone", tmp_path / "last.ckpt", film)


def test_a_config_that_was_edited_is_refused(run, tmp_path, film, capsys):
    shutil.copytree(run, tmp_path / "copy")
    config = tmp_path / "copy" / "config.yaml"
    config.write_text(config.read_text().replace("decoder_width: 32", "decoder_width: 64"))
    assert "do not fit the config.yaml" in complaint(capsys, "--run", tmp_path / "copy", film)
