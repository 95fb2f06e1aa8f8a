"""A Trainer run that does nothing but hand over records, to test what records them."""

import warnings
from types import SimpleNamespace

import lightning.pytorch as pl
import torch
from torch.utils.data import DataLoader

from varshare_pl.types import Detail, Record


def make_record(i, num_tasks=2):
    """The record after rollout i: some tasks without a return, one metric without a value."""
    metrics = {"episodes": float(3 * i), "gradient_steps": 16 * i, "wall_time_s": 0.1 * i, "sps": 31234.5678}
    metrics |= {"loss/total": 1 / 3, "kl/policy": float("nan"), "sharing/ratio": 0.97, "train/return_mean": 20.0 * i}
    metrics |= {f"train/return_task_{m}": 10.0 * i + m for m in range(num_tasks) if (i + m) % 2}
    details = [Detail("sharing/ratio", 0.9 + 0.01 * m, "actor", "layer_1", m) for m in range(num_tasks)]
    details += [Detail("sharing/energy", 0.99, "critic", "head"), Detail("diagnostics/lr", 5e-3, "actor")]
    details += [Detail("train/length", 12.0, task=1), Detail("loss/value", float("nan"), task=0)]
    return Record(256 * i, metrics, details)


class RecordModule(pl.LightningModule):
    """Each training step returns the next record; raises at the rollout ``fail_at``."""

    def __init__(self, num_tasks=2, start=0, fail_at=None):
        super().__init__()
        self.automatic_optimization = False
        self.num_tasks, self.start, self.fail_at = num_tasks, start, fail_at
        self.env_steps = 256 * start
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def training_step(self, batch, batch_idx):
        i = self.start + batch_idx + 1
        if i == self.fail_at:
            raise RuntimeError("the rollout failed")
        self.env_steps = 256 * i
        return {"record": make_record(i, self.num_tasks)}

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.0)


class RecordData(pl.LightningDataModule):
    def __init__(self, rollouts, start, suite):
        super().__init__()
        self.rollouts, self.suite = rollouts, suite
        self.total_env_steps = 256 * (start + rollouts)

    def train_dataloader(self):
        return DataLoader(range(self.rollouts), batch_size=None)


def make_suite(*names, solved_return=475.0):
    return SimpleNamespace(name="Made", tasks=[SimpleNamespace(name=n) for n in names], solved_return=solved_return)


def record_run(folder, callbacks, rollouts=3, num_tasks=2, start=0, fail_at=None, suite=None, logger=False):
    """Fit over so many rollouts, from rollout ``start`` on, in the folder."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"lightning\.pytorch\.(utilities|trainer)")
        trainer = pl.Trainer(
            default_root_dir=folder,
            max_epochs=1,
            accelerator="cpu",
            devices=1,
            callbacks=callbacks,
            logger=logger,
            log_every_n_steps=1,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(RecordModule(num_tasks, start, fail_at), datamodule=RecordData(rollouts, start, suite))
