"""Muon for the weights of the inner convolutions, AdamW for everything else.

Muon (Keller Jordan, "Muon: An optimizer for hidden layers in neural networks", 2024) makes the
momentum of a weight matrix orthogonal before it takes it as a step: directions that AdamW hardly
moves along are learnt as fast as the others. A convolution is one matrix, its output channels by
everything that it looks at.

A recipe can leave those to AdamW too, which shows what Muon is worth.
"""

from typing import Any

from torch import Tensor, nn
from torch.optim import AdamW, Muon

from training.model.derain_model import DerainModel
from training.recipes import InnerOptimizer


class Optimizer:
    """Of a network whose channels lie last in memory.

    Muon's steps are scaled to the size of AdamW's ("match_rms_adamw"; Liu et al., "Muon is scalable
    for LLM training", 2025), so one learning rate and one weight decay serve both.
    """

    def __init__(
        self,
        network: DerainModel,
        learning_rate: float,
        weight_decay: float,
        inner: InnerOptimizer = "muon",
    ) -> None:
        ends = {id(weight) for end in network.ends for weight in end.parameters()}
        self._inner, others = list[nn.Parameter](), list[nn.Parameter]()
        for weight in network.parameters():
            if not weight.requires_grad:
                continue
            is_inner = weight.ndim == 4 and id(weight) not in ends
            (self._inner if is_inner and inner == "muon" else others).append(weight)
        # The same memory, seen as matrices, which is what torch's Muon takes.
        self._matrices = [nn.Parameter(_as_matrix(weight.detach())) for weight in self._inner]
        for weight, matrix in zip(self._inner, self._matrices, strict=True):
            assert matrix.data_ptr() == weight.data_ptr(), (
                "call network.to(memory_format=torch.channels_last)"
            )
        self._optimizers: dict[str, Muon | AdamW] = {}
        if self._matrices:  # torch has no optimizer of nothing
            self._optimizers["muon"] = Muon(
                self._matrices, lr=learning_rate, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw"
            )
        self._optimizers["adamw"] = AdamW(others, lr=learning_rate, weight_decay=weight_decay)

    def step(self, learning_rate: float) -> None:
        """Along the gradients of the network's parameters."""
        for weight, matrix in zip(self._inner, self._matrices, strict=True):
            assert weight.grad is not None
            matrix.grad = _as_matrix(weight.grad)
        for optimizer in self._optimizers.values():
            for group in optimizer.param_groups:
                group["lr"] = learning_rate
            optimizer.step()  # type: ignore[no-untyped-call]  # as torch declares that of Muon

    def state_dict(self) -> dict[str, Any]:
        return {name: optimizer.state_dict() for name, optimizer in self._optimizers.items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for name, optimizer in self._optimizers.items():
            optimizer.load_state_dict(state[name])


def _as_matrix(weight: Tensor) -> Tensor:
    """(out, in, rows, columns) as (out, rows x columns x in)."""
    return weight.permute(0, 2, 3, 1).flatten(1)
