"""The optimiser and the learning rate of each parameter, by its name.

Every parameter is in exactly one group; the bigram scale is not trained and keeps its initial value, as in the record
(PR #598).
"""

from collections.abc import Mapping

import torch
from torch import nn

from golf.config.config import OptimizerConfig
from golf.runtime.process_group import ProcessGroup
from golf.train.muon import Muon

UNTRAINED = "untrained"


def optimizer_group(name: str, num_encoder: int) -> str:
    """Returns the group of the parameter `name` in a model with `num_encoder` encoder blocks.

    Returns: "muon_encoder", "muon_decoder", "muon_bigram_proj", "muon_embedding_proj",
        "adamw_token_embedding", "adamw_encoder", "adamw_decoder", "adamw_other" or "untrained".
    """
    if name.startswith("blocks."):
        half = "encoder" if int(name.split(".")[1]) < num_encoder else "decoder"
        return ("muon_" if name.endswith(".weight") else "adamw_") + half
    named = {
        "token_embedding.weight": "adamw_token_embedding",
        "bigram.projection.weight": "muon_bigram_proj",
        "embedding_in.weight": "muon_embedding_proj",
        "embedding_out.weight": "muon_embedding_proj",
        "bigram.scale": UNTRAINED,
    }
    return named.get(name, "adamw_other")


def group_lr(group: str, config: OptimizerConfig) -> float:
    """Returns the peak learning rate of a group."""
    base = config.matrix_lr if group.startswith("muon_") else config.scalar_lr
    if group == "adamw_token_embedding":
        base = config.embedding_lr
    return base * config.decoder_lr_multiplier if group.endswith("_decoder") else base


def make_optimizers(
    parameters: Mapping[str, nn.Parameter], num_encoder: int, config: OptimizerConfig, group: ProcessGroup
) -> tuple[Muon, torch.optim.AdamW]:
    """Returns Muon over the matrices and AdamW over the rest; AdamW's groups carry their peak rate as "peak_lr"."""
    members: dict[str, list[nn.Parameter]] = {}
    for name, parameter in parameters.items():
        members.setdefault(optimizer_group(name, num_encoder), []).append(parameter)
    matrices = [(p, group_lr(name, config)) for name, ps in members.items() if name.startswith("muon_") for p in ps]
    muon = Muon([p for p, _ in matrices], [lr for _, lr in matrices], config, group)
    decay = config.weight_decay
    groups = [
        {
            "params": ps,
            "lr": group_lr(name, config),
            "peak_lr": group_lr(name, config),
            "weight_decay": decay.embedding if name == "adamw_token_embedding" else decay.others,
        }
        for name, ps in members.items()
        if name.startswith("adamw_")
    ]
    adamw = torch.optim.AdamW(
        groups,
        betas=(config.beta1, config.beta2),
        eps=config.epsilon,
        # On CPUs the fused kernel rounds otherwise than the plain one, and than published figures made on CPUs.
        fused=group.device.type == "cuda",
    )
    return muon, adamw
