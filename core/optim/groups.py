"""Which optimizer moves which parameter, how fast, and whether it decays."""

import torch
from torch import nn

from core.config import OptimizerConfig
from core.optim.adamw import AdamW
from core.optim.muon import Muon


def build_optimizers(model: nn.Module, config: OptimizerConfig) -> list[torch.optim.Optimizer]:
    """The optimizers of a model, every parameter in exactly one group of one of them.

    With `kind` "muon" the two-dimensional weights of the blocks go to Muon and all else to AdamW. With `decayed`
    "matrices" only weights of two axes or more decay, and of them no embedding: the row of a rare token is moved by a
    gradient once in a thousand steps, decay would shrink it in all of them. A table tied with the head is an embedding.

    Every group has a readable `name` and a `peak_lr`, from which the training loop makes `lr` at every step.

    Args:
        model: Names say what parameters are: those in blocks begin with `blocks.`, those of a module whose name ends in
            `embedding` are tables.
        config: Kind, rates and decay.

    Returns:
        AdamW, and behind it Muon if asked for.
    """
    members: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    parts: dict[tuple[bool, bool], dict[str, None]] = {}  # in the order in which they come
    for name, parameter in model.named_parameters():  # a tied one comes once, under its first name: the embedding's
        part = _part(name, parameter)
        by_muon = config.kind == "muon" and part == "block matrices" and parameter.ndim == 2
        decays = config.decayed == "all" or part in ("block matrices", "head")
        members.setdefault((by_muon, decays), []).append(parameter)
        parts.setdefault((by_muon, decays), {})[part] = None
    grouped = [parameter for parameters in members.values() for parameter in parameters]
    assert len(grouped) == len(set(grouped)) == len(list(model.parameters()))

    def groups(by_muon: bool, lr: float) -> list[dict]:
        return [
            {
                "params": members[key],
                "name": ", ".join(parts[key]),
                "lr": lr,
                "peak_lr": lr,
                "weight_decay": config.weight_decay if key[1] else 0.0,
            }
            for key in sorted(members, reverse=True)  # what decays first
            if key[0] == by_muon
        ]

    optimizers: list[torch.optim.Optimizer] = []
    if chosen := groups(False, config.lr):
        optimizers.append(AdamW(chosen, betas=config.betas, eps=config.eps))
    if chosen := groups(True, config.muon_lr):
        optimizers.append(Muon(chosen, momentum=config.muon_momentum))
    return optimizers


def _part(name: str, parameter: nn.Parameter) -> str:
    if any(module.endswith("embedding") for module in name.split(".")[:-1]):
        return "embedding"
    if parameter.ndim < 2:
        return "gains"
    return "block matrices" if name.startswith("blocks.") else "head"
