"""What the networks minimise."""

from typing import Literal

from torch import Tensor

Loss = Literal["rmse", "l1"]

_FLOOR = 1e-3  # a quarter of a level: keeps the gradient finite where nothing is wrong


def patch_errors(derained: Tensor, clean: Tensor, kind: Loss = "rmse") -> Tensor:
    """Each patch's own RMSE or mean absolute error, (N,); the loss is their mean.

    RMSE is less even-handed between pixels than L1, which the few pixels of a drizzle cannot move:
    under it a network does best to leave them alone.
    """
    if kind == "l1":
        return (derained - clean).abs().mean(dim=(1, 2, 3))
    return (derained - clean).square().mean(dim=(1, 2, 3)).add(_FLOOR**2).sqrt()
