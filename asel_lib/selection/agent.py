"""AgentViT's selector: a Q-network that looks at the first block's attention and at a memory of past choices."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from asel_lib.selection._blocks import check_plain
from asel_lib.selection.base import PatchSelector
from asel_lib.selection.registry import register
from asel_lib.selection.view import View, at_least_single

HIDDEN = (1024, 256)


@register("agent", label="AgentViT's agent", color="#882255", marker="X", recipes=("agent",))
class AgentSelector(PatchSelector):
    """Q(s) of each patch, s = [a || m] (AgentViT: Cauteruccio et al. 2025, with the class memory of ASEL's comparison).

    a (N): the first block's attention, averaged over heads and queries. m (N): a moving average of the masks used in
    training, a row a class; without a label, which is how images are classified, the mean over the classes. The
    network is Linear(2N -> 1024), ReLU, Linear(1024 -> 256), ReLU, Linear(256 -> N).

    It belongs to one model (`attach`) and its number of patches. Trained by `training.recipes.agent`, not by the
    classifier's gradient.
    """

    def __init__(self, dim: int = 0):
        super().__init__()

    def attach(self, model: nn.Module) -> None:
        check_plain(model, model.blocks[:1], "agent")
        if not model.num_classes:
            raise ValueError("agent remembers masks by class, and this model has no classes: give it a head first")
        patches = model.patch_embed.num_patches
        widths = (2 * patches, *HIDDEN, patches)
        layers = [nn.Linear(a, b) for a, b in zip(widths, widths[1:], strict=False)]
        self.q_network = nn.Sequential(layers[0], nn.ReLU(), layers[1], nn.ReLU(), layers[2])
        self.register_buffer("memory", torch.zeros(model.num_classes, patches))

    def forward(self, view: View) -> Tensor:
        if not hasattr(self, "q_network"):
            raise ValueError("an agent belongs to a model: make it as SelectiveViT(..., selector='agent')")
        return self.values(self.attention(view.patches, view.model.blocks[0]))

    def attention(self, patches: Tensor, block: nn.Module) -> Tensor:
        """What each patch receives of a block's attention: mean over heads and queries, sums to 1.

        Args:
            patches: tokens (B, N, D).
            block: the model's first.

        Returns:
            (B, N), in single precision at least.

        Raises:
            ValueError: the agent was made for another number of patches.
        """
        count = self.memory.shape[1]
        if patches.shape[1] != count:
            raise ValueError(
                f"{patches.shape[1]} patches, but this agent's Q-network was made for {count}: give it images of the "
                "size that the model was made with"
            )
        layer = block.attn
        tokens = block.norm1(patches.to(block.norm1.weight.dtype))
        width = layer.num_heads * layer.head_dim
        # Of queries, keys and values only the first two; the values play no part in the weights.
        if type(layer.qkv) is nn.Linear:
            bias = None if layer.qkv.bias is None else layer.qkv.bias[: 2 * width]
            pairs = F.linear(tokens, layer.qkv.weight[: 2 * width], bias)
        else:  # an adapter around it is asked itself
            pairs = layer.qkv(tokens)[..., : 2 * width]
        query, key = pairs.unflatten(2, (2, layer.num_heads, layer.head_dim)).permute(2, 0, 3, 1, 4)
        query, key = at_least_single(layer.q_norm(query)), at_least_single(layer.k_norm(key))
        weights = (query * layer.scale @ key.transpose(-2, -1)).softmax(dim=-1)
        return weights.mean(dim=(1, 2))

    def state(self, attention: Tensor, labels: Tensor | None = None) -> Tensor:
        """What the Q-network sees: [attention || memory], (B, 2N).

        Args:
            attention: (B, N).
            labels: (B,), known in training: the memory's rows of these classes. None: the mean over the classes, the
                same for every image.

        Raises:
            ValueError: names a class that the memory has no row for.
        """
        if labels is None:
            return torch.cat([attention, self.memory.mean(dim=0).expand_as(attention)], dim=1)
        self.check(labels)
        return torch.cat([attention, self.memory[labels]], dim=1)

    def values(self, attention: Tensor, labels: Tensor | None = None) -> Tensor:
        """Q (B, N); each image's from its own state alone. Arguments and errors as `state`'s."""
        return self.q_network(self.state(attention, labels))

    @torch.no_grad()
    def remember(self, labels: Tensor, mask: Tensor, alpha: float) -> None:
        """Move the memory's rows of some classes towards a mask.

        Args:
            labels: (B,), the images' classes.
            mask: (N,), which patches were kept.
            alpha: how far, for each image, in [0, 1].
        """
        self.check(labels)
        classes, counts = labels.unique(return_counts=True)
        kept = (1 - alpha) ** counts[:, None].float()
        self.memory[classes] = kept * self.memory[classes] + (1 - kept) * mask.to(self.memory.dtype)

    def check(self, labels: Tensor, remembered: bool = False) -> None:
        """Refuse classes that the memory cannot serve.

        Args:
            labels: (B,).
            remembered: refuse also classes whose row is still empty.

        Raises:
            ValueError: names the classes that there is no row for, or whose row is still empty.
        """
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
    """AgentViT's action in training: keep the patches at or above the mean.

    Args:
        values: (N,), Q averaged over the batch, or drawn at random.

    Returns:
        Mask (N,) bool; at least one is true, also where rounding lifts the mean above equal values.
    """
    mask = values >= values.mean()
    mask[values.argmax()] = True
    return mask
