"""One call of a model: what was asked, what was chosen, and the tokens on their way through the blocks."""

from dataclasses import dataclass

import torch
from torch import Tensor

from asel_lib import checks
from asel_lib.reproducibility import BatchSliceGenerator

MODES = ("gather", "mask", "gumbel")


@dataclass(frozen=True)
class Call:
    """The settings of one call.

    Args:
        keep_ratio: share of the patches that are kept, in (0, 1].
        policy: the selector that chooses, with its options; None: the model's own.
        lines: line drawings (B, 1, h, w) in [0, 1]; None: a selector that reads drawings makes them of the images.
        draw_index: which of many draws, for selectors that draw at random.
        kept: indices (B, K) of patches that are kept whatever a selector says.
        mode: "gather": the K best patches enter the blocks. "mask": all patches do, multiplied by the straight-through
            mask (ASEL's published training). "gumbel": K patches drawn by Gumbel top-k enter (recipe "dropped").
        generator: what "gumbel" draws with.

    Raises:
        ValueError: an unknown mode.
    """

    keep_ratio: float = 1.0
    policy: str | None = None
    lines: Tensor | None = None
    draw_index: int = 0
    kept: Tensor | None = None
    mode: str = "gather"
    generator: torch.Generator | BatchSliceGenerator | None = None

    def __post_init__(self):
        checks.one_of("mode", self.mode, MODES)

    def check_kept(self, images: int, patches: int) -> None:
        """Refuse indices `kept` that are not those of patches.

        Args:
            images: B, how many there are.
            patches: N, how many an image has.

        Raises:
            ValueError: a wrong shape, or an index that there is not.
        """
        kept = self.kept
        if kept.ndim != 2 or kept.shape[0] != images or not 0 < kept.shape[1] <= patches:
            raise ValueError(f"kept is {tuple(kept.shape)}: expected ({images}, K), indices of 1 to {patches} patches")
        if torch.compiler.is_compiling():
            return  # a tracer knows shapes and no values
        if not (0 <= int(kept.min()) and int(kept.max()) < patches):
            raise ValueError(f"kept has an index outside of 0 to {patches - 1}, the image's patches")


@dataclass(frozen=True)
class Selection:
    """What a call chose.

    Args:
        scores: (B, N); None where nothing was scored.
        kept: indices (B, K), best first; None where all patches were kept, or were merged.
    """

    scores: Tensor | None = None
    kept: Tensor | None = None


@dataclass
class Tokens:
    """What runs through the blocks.

    Args:
        all: (B, P + n, D), the P prefix tokens (class, registers) first.
        prefix: P.
        places: (B, n), the patch that each token was, -1 for one made of several; None where the method merges.
        rotary: the patches' rotary positions, as the model's blocks take them; None: they take none.
    """

    all: Tensor
    prefix: int
    places: Tensor | None = None
    rotary: Tensor | None = None

    @property
    def patches(self) -> Tensor:
        return self.all[:, self.prefix :]

    def keep(self, kept: Tensor) -> "Tokens":
        """The prefix and the patch tokens at these indices (B, k)."""
        tokens = torch.cat([self.all[:, : self.prefix], gather_patches(self.patches, kept)], dim=1)
        return Tokens(tokens, self.prefix, None if self.places is None else self.places.gather(1, kept))


def gather_patches(patches: Tensor, kept: Tensor) -> Tensor:
    """The patches at some indices.

    Args:
        patches: (B, N, D).
        kept: indices (B, K).

    Returns:
        (B, K, D).
    """
    return patches.gather(1, kept.unsqueeze(-1).expand(-1, -1, patches.shape[-1]))
