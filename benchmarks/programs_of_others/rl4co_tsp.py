"""An attention model learns the travelling salesman by reinforcement, as rl4co's quick start has it."""

import torch
from result import metrics, told
from rl4co.envs import TSPEnv
from rl4co.models import POMO, AttentionModel
from rl4co.utils.trainer import RL4COTrainer

NEEDS = "rl4co"


def main():
    modules, numbers = torch.nn.ModuleDict(), {}
    for kind, more in ((AttentionModel, {"baseline": "rollout"}), (POMO, {})):
        torch.manual_seed(1)
        env = TSPEnv(generator_params={"num_loc": 8})
        policy = {"embed_dim": 32, "num_encoder_layers": 2, "num_heads": 4, "feedforward_hidden": 64}
        model = kind(env, policy_kwargs=policy, batch_size=64, train_data_size=320, val_data_size=128, test_data_size=128,
                     optimizer_kwargs={"lr": 1e-3}, **more)  # fmt: skip
        trainer = RL4COTrainer(max_epochs=2, accelerator="cpu", logger=None, enable_progress_bar=False)
        trainer.fit(model)
        modules[kind.__name__] = model.policy
        numbers |= {f"{kind.__name__} {name}": value for name, value in metrics(trainer).items()}
    told(modules, **numbers)


if __name__ == "__main__":
    main()
