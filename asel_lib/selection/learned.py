"""ASEL's learned selector: a small MLP on each patch and the image's mean patch."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from asel_lib.selection.base import PatchSelector
from asel_lib.selection.registry import register
from asel_lib.selection.view import View

HIDDEN = 96


@register("learned", label="ASEL", color="#D55E00", marker="D", recipes=("masked", "dropped", "anytime"))
class LearnedSelector(PatchSelector):
    """s_i = sigmoid(MLP([z_i || g])) in (0, 1), g the mean of z over the patches (ASEL, section "Model").

    The MLP is Linear(2D -> 96), LayerNorm, ReLU, Linear(96 -> 1); its parameters are named as in the published
    checkpoints (`mlp.{0,1,3}`).
    """

    def __init__(self, dim: int):
        super().__init__()
        self.mlp = nn.Sequential(
            nn.Linear(2 * dim, HIDDEN), nn.LayerNorm(HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, 1), nn.Sigmoid()
        )

    def log_weights(self, view: View) -> Tensor:
        return torch.logit(self(view), eps=1e-6)

    def explain(self, view: View) -> tuple[Tensor, str]:
        return self.log_weights(view), f"log-weights of {self.name}"

    def forward(self, view: View) -> Tensor:
        patches, (first, *rest) = view.patches, self.mlp
        # W [z || g] = W_z z + W_g g: the mean's half is computed once an image instead of once a patch.
        dim = patches.shape[-1]
        hidden = F.linear(patches, first.weight[:, :dim])
        hidden = hidden + F.linear(patches.mean(dim=1, keepdim=True), first.weight[:, dim:], first.bias)
        for layer in rest:
            hidden = layer(hidden)
        return hidden.squeeze(-1)
