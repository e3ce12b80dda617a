# expect: none
"""A Wasserstein GAN by hand: five critic steps for one of the generator, weight clipping, two schedules."""

import pytorch_lightning as pl
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class WGAN(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.automatic_optimization = False
        self.generator = nn.Sequential(nn.Linear(4, 64), nn.ReLU(), nn.Linear(64, 2))
        self.critic = nn.Sequential(nn.Linear(2, 64), nn.LeakyReLU(0.2), nn.Linear(64, 1))

    def training_step(self, batch, batch_idx):
        (real,) = batch
        generator, critic = self.optimizers()
        fake = self.generator(torch.randn(len(real), 4, device=self.device))
        self.toggle_optimizer(critic)
        loss = self.critic(fake.detach()).mean() - self.critic(real).mean()
        critic.zero_grad()
        self.manual_backward(loss)
        critic.step()
        with torch.no_grad():
            for parameter in self.critic.parameters():
                parameter.clamp_(-0.1, 0.1)
        self.untoggle_optimizer(critic)
        self.log("critic_loss", loss)
        if batch_idx % 5 == 4:
            self.toggle_optimizer(generator)
            loss = -self.critic(fake).mean()
            generator.zero_grad()
            self.manual_backward(loss)
            generator.step()
            self.untoggle_optimizer(generator)
            self.log("generator_loss", loss)

    def on_train_epoch_end(self):
        for scheduler in self.lr_schedulers():
            scheduler.step()

    def configure_optimizers(self):
        generator = torch.optim.RMSprop(self.generator.parameters(), lr=1e-3)
        critic = torch.optim.RMSprop(self.critic.parameters(), lr=1e-3)
        return [generator, critic], [torch.optim.lr_scheduler.StepLR(o, 2, 0.5) for o in (generator, critic)]


angle = torch.rand(2000) * 6.28
ring = torch.stack([angle.cos(), angle.sin()], 1) + 0.05 * torch.randn(2000, 2)
trainer = pl.Trainer(max_epochs=4, accelerator="cpu", logger=False, enable_checkpointing=False)
trainer.fit(WGAN(), DataLoader(TensorDataset(ring), 40, shuffle=True))
