"""Edge energy: the patches with the strongest edges, without training. The yardstick of every method that learns."""

import torch
import torch.nn.functional as F
from torch import Tensor

from asel_lib.selection.base import PatchSelector
from asel_lib.selection.line_guided import density
from asel_lib.selection.registry import register
from asel_lib.selection.view import View


@register("edge_energy", label="edge energy", color="#117733", marker="<")
class EdgeEnergySelector(PatchSelector):
    """score = mean over the patch of Gx^2 + Gy^2, G the Sobel derivatives of the grey image in [0, 1]."""

    def __init__(self, dim: int = 0):
        super().__init__()

    def draw_lines(self, images: Tensor) -> Tensor:
        """The energy of each pixel, (B, 1, H, W), of images (B, 1, H, W) or (B, 3, H, W) in [0, 1]."""
        smooth, slope = images.new_tensor([1.0, 2.0, 1.0]) / 4, images.new_tensor([-1.0, 0.0, 1.0]) / 2
        kernels = torch.stack([smooth[:, None] * slope, slope[:, None] * smooth])[:, None]
        # The border repeats, else the frame of every image would be its strongest edge.
        grey = F.pad(images.mean(dim=1, keepdim=True), (1, 1, 1, 1), mode="replicate")
        return F.conv2d(grey, kernels).square().sum(dim=1, keepdim=True)

    def forward(self, view: View) -> Tensor:
        return density(view.lines.float(), view.grid)
