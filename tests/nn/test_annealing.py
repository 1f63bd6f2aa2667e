"""The path in loops of others: the first step at 0, the last at 1, a resumed training where it was."""

from __future__ import annotations

import pickle
import sys

import pytest
import torch
from torch import nn

import resteutils as ru


def network() -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 8), ru.BinaryLinear(8, 8), nn.Linear(8, 2))


def test_a_plain_loop_ends_at_the_end_of_the_path_and_resumes() -> None:
    model = network()
    scheduler, seen = ru.AnnealScheduler(model, 5), []
    for _ in range(5):
        seen.append(model[1].progress)
        scheduler.step()
    assert seen == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert model[1].current == ru.ReSTE()
    scheduler.step()
    assert scheduler.progress == 1.0

    half = ru.AnnealScheduler(network(), 5)
    half.step()
    other = network()
    ru.AnnealScheduler(other, 9).load_state_dict(half.state_dict())
    assert other[1].progress == 0.25
    assert ru.AnnealScheduler(network(), 1).progress == 1.0
    for wrong in (0, 2.5):
        with pytest.raises(ValueError, match=f"total_steps = {wrong}"):
            ru.AnnealScheduler(network(), wrong)


def test_a_callback_says_which_frameworks_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("lightning.pytorch", "pytorch_lightning", "transformers"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    with pytest.raises(RuntimeError, match=r"lightning\.pytorch.*transformers.*AnnealScheduler"):
        ru.AnnealCallback()


class Watched(ru.BinaryLinear):
    def forward(self, x):
        if self.training:
            self.seen.append(self.progress)
        return super().forward(x)


def watched() -> nn.Sequential:
    layer = Watched(8, 8)
    layer.seen = []
    return nn.Sequential(nn.Linear(4, 8), layer, nn.Linear(8, 2))


def test_lightning(tmp_path) -> None:
    lightning = pytest.importorskip("lightning.pytorch", reason="pip install 'resteutils[integrations]'")

    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.model = watched()

        def training_step(self, batch, index):
            return self.model(batch[0]).square().mean()

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.01)

    data = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.randn(24, 4)), batch_size=4)

    def trained(module, **options):
        quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
        trainer = lightning.Trainer(
            callbacks=[ru.AnnealCallback()], default_root_dir=tmp_path, enable_checkpointing=False, **quiet, **options
        )
        trainer.fit(module, data)
        return trainer, module.model[1].seen

    trainer, seen = trained(Module(), max_epochs=2, accumulate_grad_batches=2)
    assert seen == [0.0, 0.0, 0.2, 0.2, 0.4, 0.4, 0.6, 0.6, 0.8, 0.8, 1.0, 1.0]
    with pytest.raises(ValueError, match="max_epochs or max_steps"):
        trained(Module(), max_epochs=-1)
    assert type(pickle.loads(pickle.dumps(ru.AnnealCallback()))).__name__ == "AnnealCallback"


def test_hugging_face_s_trainer(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    transformers = pytest.importorskip("transformers", reason="pip install 'resteutils[integrations]'")
    pytest.importorskip("accelerate", reason="pip install 'resteutils[integrations]'")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = watched()

        def forward(self, x, labels):
            logits = self.model(x)
            return {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits}

    data = [{"x": torch.randn(4), "labels": number % 2} for number in range(24)]
    arguments = transformers.TrainingArguments(
        str(tmp_path), num_train_epochs=2, per_device_train_batch_size=4, gradient_accumulation_steps=2, report_to=[],
        use_cpu=True, save_strategy="no", logging_strategy="no", disable_tqdm=True, dataloader_pin_memory=False,
    )  # fmt: skip
    model = Model()
    trainer = transformers.Trainer(model, arguments, train_dataset=data, callbacks=[ru.AnnealCallback()])
    trainer.train()
    assert model.model[1].seen == [0.0, 0.0, 0.2, 0.2, 0.4, 0.4, 0.6, 0.6, 0.8, 0.8, 1.0, 1.0]
