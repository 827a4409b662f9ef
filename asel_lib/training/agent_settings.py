"""How AgentViT's agent learns."""

from asel_lib.configs.settings import Count, NotNegative, Positive, Ratio, Share, settings


@settings
class AgentSettings:
    """Defaults as published (Cauteruccio et al. 2025).

    The reward of a mask is first loss / loss - budget_weight * |kept - n| / n with n = budget * patches (98 of 196 in
    the paper).
    """

    epsilon_start: Share = 1.0
    """The chance of a random mask at the start."""
    epsilon_end: Share = 0.01
    """What it falls to."""
    epsilon_decay: Positive = 20_000.0
    """Batches in which it falls by a factor e."""
    exploration: Ratio | None = None
    """Share of a training's batches after which less than 1 % of that fall is left, in place of epsilon_decay, which is
    far too slow for a short training; None: epsilon_decay, as published."""
    reward_every: Count = 50
    """Batches from one reward to the next."""
    budget: Ratio = 0.5
    """Share of the patches that the reward asks for."""
    budget_weight: NotNegative = 20.0
    """How much the reward counts a deviation from it."""
    replay: Count = 64
    """Rewards that are kept."""
    draw: Count = 8
    """How many of them make a step of Q-learning."""
    lr: Positive = 0.01
    """Learning rate of Q-learning."""
    gamma: Share = 0.95
    """Its discount."""
    tau: Ratio = 0.1
    """How far the target network moves towards the Q-network."""
    target_every: Count = 2
    """Steps of Q-learning from one move to the next."""
    clip_gradient: Positive = 100.0
    """Largest norm of its gradient."""
    memory_alpha: Share = 0.01
    """What one image's mask counts in the memory of its class."""

    def __post_init__(self):
        if self.replay < self.draw:
            raise ValueError(
                f"replay is {self.replay}, fewer than draw, {self.draw}: the buffer must hold what is drawn from it; "
                "raise replay or lower draw"
            )
