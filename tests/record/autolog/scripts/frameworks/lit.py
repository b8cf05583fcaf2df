"""Lightning: forward and backward run in a closure inside the optimizer's step."""

import logging
import sys
import warnings

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

warnings.simplefilter("ignore")
logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)


class Lit(LightningModule):
    def __init__(self):
        super().__init__()
        self.last, self.first = nn.Linear(5, 3), nn.Linear(6, 5)

    def training_step(self, batch, index):
        hidden = torch.relu(self.first(batch[0]))
        loss = nn.functional.cross_entropy(self.last(hidden), batch[1])
        print("loss", loss.item())
        return loss

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=0.01)


torch.manual_seed(0)
data = TensorDataset(torch.randn(12, 6), torch.randint(0, 3, (12,)))
Trainer(
    max_epochs=1,
    accelerator="cpu",
    logger=False,
    enable_checkpointing=False,
    enable_progress_bar=False,
    enable_model_summary=False,
    accumulate_grad_batches=int(sys.argv[1]),
).fit(Lit(), DataLoader(data, batch_size=2))
