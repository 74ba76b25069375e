"""What the tests of callbacks that watch a training share: small films, a small method, a short training."""

import torch
from lightning.pytorch import Trainer
from phantoms import small

from xrayssl.data import ShoulderXrayDataModule
from xrayssl.loggers import MetricsFile
from xrayssl.masking import Masking
from xrayssl.methods import MAEPretrain
from xrayssl.optim import Optim


def data(films=40, **options):
    """Shoulder phantoms of 32 px."""
    return ShoulderXrayDataModule(small("shoulder", films), img_size=32, batch_size=4, num_workers=0, **options)


def masked(**options):
    """A masked autoencoder with stochastic depth."""
    torch.manual_seed(1)
    sizes = {"decoder_width": 32, "decoder_depth": 1, "decoder_heads": 2, "drop_path": 0.2, **options}
    return MAEPretrain(backbone="test_vit", img_size=32, masking=Masking(0.5), optim=Optim(warmup_epochs=0), **sizes)


def trained(folder, callbacks, model=None, films=None, epochs=3, resume=None, **options):
    """The method after two steps an epoch, with metrics.csv in the folder."""
    model, films = model or masked(), films or data()
    options = {"accelerator": "cpu", "enable_progress_bar": False, "enable_model_summary": False,
               "enable_checkpointing": False, "limit_train_batches": 2, "limit_val_batches": 1,
               "num_sanity_val_steps": 0, "logger": [MetricsFile(folder)], **options}  # fmt: skip
    trainer = Trainer(default_root_dir=folder, max_epochs=epochs, callbacks=callbacks, **options)
    trainer.fit(model, datamodule=films, ckpt_path=resume)
    return model


def one_and_two(folder, callback, model=None):
    """Trains an epoch in one process and in two, into folders of these names; `model` makes another method."""
    two = {"devices": 2, "strategy": "ddp_fork", "use_distributed_sampler": False}
    for name, options in (("one", {}), ("two", two)):
        (folder / name).mkdir()
        trained(folder / name, [callback()], model() if model else None, epochs=1, **options)
