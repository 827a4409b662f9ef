"""AgentViT's selector: a Q-network that looks at the first block's attention and at a memory of past choices."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from asel_lib.selection.base import PatchSelector, register

HIDDEN = (1024, 256)


@register("agent")
class AgentSelector(PatchSelector):
    """Q(s) of each patch, s = [a || m] (AgentViT: Cauteruccio et al. 2025, with the class memory of ASEL's comparison).

    a (N): the first block's attention, averaged over heads and queries. m (N): a moving average of the masks used in
    training, a row a class; without a label, which is how images are classified, the mean over the classes. The
    network is Linear(2N -> 1024), ReLU, Linear(1024 -> 256), ReLU, Linear(256 -> N).

    It belongs to one model (`attach`), whose first block it reads without owning it, and to its number of patches.
    Trained by `training.recipes.agent`, not by the classifier's gradient.
    """

    trained = True

    def __init__(self, dim: int = 0):
        super().__init__()

    def attach(self, model: nn.Module) -> None:
        patches = model.patch_embed.num_patches
        self.block = [model.blocks[0]]  # in a list: the block is the model's child, not ours
        widths = (2 * patches, *HIDDEN, patches)
        layers = [nn.Linear(a, b) for a, b in zip(widths, widths[1:], strict=False)]
        self.q_network = nn.Sequential(layers[0], nn.ReLU(), layers[1], nn.ReLU(), layers[2])
        self.register_buffer("memory", torch.zeros(model.num_classes, patches))

    def forward(self, patches: Tensor, grid: tuple[int, int], lines: Tensor | None = None) -> Tensor:
        return self.values(self.attention(patches))

    def attention(self, patches: Tensor) -> Tensor:
        """(B, N, D) tokens -> (B, N), what each patch receives of the first block's attention: mean over heads and
        queries, sums to 1."""
        if not hasattr(self, "q_network"):
            raise ValueError("an agent belongs to a model: make it as SelectiveViT(..., selector='agent')")
        block, count = self.block[0], self.memory.shape[1]
        if patches.shape[1] != count:
            raise ValueError(
                f"{patches.shape[1]} patches, but this agent's Q-network was made for {count}: give it images of the "
                "size that the model was made with"
            )
        layer, tokens = block.attn, block.norm1(patches)
        width = layer.num_heads * layer.head_dim
        bias = None if layer.qkv.bias is None else layer.qkv.bias[: 2 * width]
        # Of queries, keys and values only the first two; the values play no part in the weights.
        query, key = (
            F.linear(tokens, layer.qkv.weight[: 2 * width], bias)
            .unflatten(2, (2, layer.num_heads, layer.head_dim))
            .permute(2, 0, 3, 1, 4)
        )
        query, key = layer.q_norm(query), layer.k_norm(key)
        weights = (query * layer.scale @ key.transpose(-2, -1)).softmax(dim=-1)
        return weights.mean(dim=(1, 2))

    def state(self, attention: Tensor, labels: Tensor | None = None) -> Tensor:
        """[attention || memory] (B, 2N): the rows of the images' classes in training, where `labels` (B,) are known,
        else the mean over classes, the same for every image.
        ValueError names a class that the memory has no row for."""
        if labels is None:
            return torch.cat([attention, self.memory.mean(dim=0).expand_as(attention)], dim=1)
        self.check(labels)
        return torch.cat([attention, self.memory[labels]], dim=1)

    def values(self, attention: Tensor, labels: Tensor | None = None) -> Tensor:
        """Q (B, N); each image's from its own state alone."""
        return self.q_network(self.state(attention, labels))

    @torch.no_grad()
    def remember(self, labels: Tensor, mask: Tensor, alpha: float) -> None:
        """Move the rows of these images' classes (B,) towards the mask (N,), by `alpha` for each image."""
        self.check(labels)
        classes, counts = labels.unique(return_counts=True)
        kept = (1 - alpha) ** counts[:, None].float()
        self.memory[classes] = kept * self.memory[classes] + (1 - kept) * mask.to(self.memory.dtype)

    def check(self, labels: Tensor, remembered: bool = False) -> None:
        """ValueError names the classes that the memory has no row for, or, if `remembered` is asked for, whose row is
        still empty."""
        known = len(self.memory)
        if strange := sorted({label for label in labels.tolist() if not 0 <= label < known}):
            raise ValueError(
                f"class {', '.join(map(str, strange))} is missing from the agent's memory, which has the classes 0 to "
                f"{known - 1}: use the data set that the model was trained on, or train it on this one"
            )
        if remembered and (empty := sorted(set(labels[~self.memory[labels].any(dim=1)].tolist()))):
            raise ValueError(
                f"class {', '.join(map(str, empty))} is missing from the agent's memory: no mask of it was remembered "
                "in training, or the checkpoint was published without its memory; test with labels=False"
            )


def at_least_mean(values: Tensor) -> Tensor:
    """AgentViT's action in training: values (N,), Q averaged over the batch or drawn at random -> mask (N,) bool of
    the patches at or above their mean; at least one, also where rounding lifts the mean above equal values."""
    mask = values >= values.mean()
    mask[values.argmax()] = True
    return mask
