"""AgentViT against its equations, written here a second time, on a state dict with the published names."""

import pytest
import torch
import torch.nn.functional as F

import asel_lib
from asel_lib.errors import CheckpointError
from asel_lib.evaluation import cost
from asel_lib.models import AgentViT

SIZE, PATCH, DIM, DEPTH, HEADS, HEAD_DIM, MLP, CLASSES = 32, 8, 24, 2, 2, 16, 40, 5
INNER, PIXELS, N = HEADS * HEAD_DIM, 3 * PATCH**2, (SIZE // PATCH) ** 2


@pytest.fixture
def published():
    """{"model_state", "dqn_state", "config"} with random weights."""
    torch.manual_seed(1)
    shapes = {"to_patch_embedding.2": (DIM, PIXELS), "linear_head.1": (CLASSES, DIM)}
    norms = {"to_patch_embedding.1": PIXELS, "to_patch_embedding.3": DIM, "linear_head.0": DIM}
    bare = {}
    for i in range(DEPTH):
        at = f"transformer.layers.{i}"
        norms |= {f"{at}.0.norm": DIM, f"{at}.1.net.0": DIM}
        bare |= {f"{at}.0.to_qkv": (3 * INNER, DIM), f"{at}.0.to_out": (DIM, INNER)}
        shapes |= {f"{at}.1.net.1": (MLP, DIM), f"{at}.1.net.3": (DIM, MLP)}
    state = {f"{name}.weight": torch.randn(shape) / shape[1] ** 0.5 for name, shape in (shapes | bare).items()}
    state |= {f"{name}.bias": torch.randn(shape[0]) * 0.1 for name, shape in shapes.items()}
    state |= {f"{name}.weight": 1 + torch.randn(width) * 0.1 for name, width in norms.items()}
    state |= {f"{name}.bias": torch.randn(width) * 0.1 for name, width in norms.items()}
    widths = (2 * N, 1024, 256, N)
    layers = list(zip((0, 2, 4), widths, widths[1:], strict=False))
    agent = {f"fc_layers.{i}.weight": torch.randn(b, a) / a**0.5 for i, a, b in layers}
    agent |= {f"fc_layers.{i}.bias": torch.randn(b) * 0.1 for i, _, b in layers}
    config = {"resize_dim": SIZE, "patch_size": PATCH, "heads": HEADS, "depth": DEPTH, "device": "cpu"}
    return {"model_state": state, "dqn_state": agent, "config": config}


class Reference:
    """The published network, patch by patch and head by head."""

    def __init__(self, published):
        self.w, self.q = published["model_state"], published["dqn_state"]

    def norm(self, x, name):
        return F.layer_norm(x, x.shape[-1:], self.w[f"{name}.weight"], self.w[f"{name}.bias"])

    def linear(self, x, name):
        return F.linear(x, self.w[f"{name}.weight"], self.w.get(f"{name}.bias"))

    def tokens(self, images):
        rows, side = [], SIZE // PATCH
        for y in range(side):
            for x in range(side):
                cell = images[:, :, y * PATCH : (y + 1) * PATCH, x * PATCH : (x + 1) * PATCH]
                values = cell.permute(0, 2, 3, 1).flatten(1)  # a pixel's colours lie together
                token = self.norm(
                    self.linear(self.norm(values, "to_patch_embedding.1"), "to_patch_embedding.2"),
                    "to_patch_embedding.3",
                )
                waves = [10000 ** -(i / (DIM // 4 - 1)) for i in range(DIM // 4)]
                angles = torch.tensor([[x * wave for wave in waves], [y * wave for wave in waves]])
                rows.append(token + torch.cat([angles[0].sin(), angles[0].cos(), angles[1].sin(), angles[1].cos()]))
        return torch.stack(rows, 1)

    def attend(self, x, layer):
        """-> (the block's attention output, weights (B, heads, N, N))."""
        at = f"transformer.layers.{layer}.0"
        parts = self.linear(self.norm(x, f"{at}.norm"), f"{at}.to_qkv").split(INNER, dim=-1)
        outputs, weights = [], []
        for head in range(HEADS):
            q, k, v = (part[..., head * HEAD_DIM : (head + 1) * HEAD_DIM] for part in parts)
            weights.append((q @ k.transpose(1, 2) * HEAD_DIM**-0.5).softmax(-1))
            outputs.append(weights[-1] @ v)
        return self.linear(torch.cat(outputs, -1), f"{at}.to_out"), torch.stack(weights, 1)

    def logits(self, tokens):
        for layer in range(DEPTH):
            tokens = tokens + self.attend(tokens, layer)[0]
            at = f"transformer.layers.{layer}.1.net"
            hidden = F.gelu(self.linear(self.norm(tokens, f"{at}.0"), f"{at}.1"))
            tokens = tokens + self.linear(hidden, f"{at}.3")
        return self.linear(self.norm(tokens.mean(1), "linear_head.0"), "linear_head.1")

    def values(self, tokens, memory):
        state = torch.cat([self.attend(tokens, 0)[1].mean(1).mean(1), memory], 1)
        for i in (0, 2, 4):
            state = F.linear(state, self.q[f"fc_layers.{i}.weight"], self.q[f"fc_layers.{i}.bias"])
            state = state if i == 4 else state.relu()
        return state


@pytest.mark.parametrize("ratio", [0.1, 0.2, 0.3, 0.5, 0.8, 1.0])
@torch.no_grad()
def test_a_published_checkpoint_gives_the_published_values_masks_and_logits(published, tmp_path, ratio):
    torch.save(published, tmp_path / "agentvit_aid.pth")
    ours, theirs = asel_lib.load_published(tmp_path / "agentvit_aid.pth"), Reference(published)
    images = torch.randn(4, 3, SIZE, SIZE)
    tokens = theirs.tokens(images)
    values = theirs.values(tokens, torch.zeros(4, N))
    torch.testing.assert_close(ours.patch_tokens(images), tokens, atol=1e-5, rtol=0)
    torch.testing.assert_close(ours.scores(images), values, atol=1e-5, rtol=0)
    kept = values.topk(max(1, int(N * ratio))).indices
    expected = theirs.logits(torch.stack([t[k] for t, k in zip(tokens, kept, strict=True)]))
    torch.testing.assert_close(ours(images, ratio), expected, atol=1e-4, rtol=0)
    random = ours.select(images, ratio, "random")
    expected = theirs.logits(torch.stack([t[k] for t, k in zip(tokens, random, strict=True)]))
    torch.testing.assert_close(ours(images, ratio, "random"), expected, atol=1e-4, rtol=0)


@torch.no_grad()
def test_the_memory_of_a_class_or_the_mean_over_classes_is_the_other_half_of_the_state(published, tmp_path):
    torch.save(published, tmp_path / "a.pth")
    ours, theirs, images = (
        asel_lib.load_published(tmp_path / "a.pth"),
        Reference(published),
        torch.randn(3, 3, SIZE, SIZE),
    )
    memory, labels, tokens = torch.rand(CLASSES, N), torch.tensor([4, 0, 4]), theirs.tokens(images)
    ours.selector.memory.copy_(memory)
    attention = ours.selector.attention(tokens, ours.blocks[0])
    torch.testing.assert_close(attention.sum(1), torch.ones(3))
    known, unknown = theirs.values(tokens, memory[labels]), theirs.values(tokens, memory.mean(0).expand(3, -1))
    torch.testing.assert_close(ours.selector.values(attention, labels), known, atol=1e-5, rtol=0)
    torch.testing.assert_close(ours.scores(images), unknown, atol=1e-5, rtol=0)


def test_sizes_are_read_off_the_published_file(published, tmp_path):
    torch.save(published, tmp_path / "a.pth")
    model = asel_lib.load_published(tmp_path / "a.pth", classes=("a", "b", "c", "d", "e"))
    block = model.blocks[0]
    assert (len(model.blocks), model.embed_dim, block.attn.num_heads, block.attn.head_dim) == (2, DIM, HEADS, HEAD_DIM)
    assert model.classes[4] == "e" and not model.training


def test_a_damaged_or_foreign_agentvit_file_is_named(published, tmp_path):
    path = tmp_path / "a.pth"
    torch.save(published | {"config": {}}, path)
    with pytest.raises(CheckpointError, match="a.pth: not a published AgentViT checkpoint: KeyError.'resize_dim'"):
        asel_lib.load_published(path)
    del published["model_state"]["transformer.layers.1.0.to_out.weight"]
    torch.save(published, path)
    with pytest.raises(CheckpointError, match="a.pth: of another architecture: blocks.1.attn.proj.weight is missing"):
        asel_lib.load_published(path)
    torch.save(published | {"model_state": 3}, path)
    with pytest.raises(CheckpointError, match="a.pth: expected a plain state dict .* found int"):
        asel_lib.load_published(path)


def test_the_published_network_has_the_published_sizes():
    model = AgentViT(num_classes=30)
    block, q = model.blocks[5], model.selector.q_network
    assert model.patch_embed.num_patches == 196
    assert block.attn.qkv.weight.shape == (3 * 512, 128) and block.attn.proj.weight.shape == (128, 512)
    assert block.attn.qkv.bias is None and block.attn.proj.bias is None and block.mlp.fc1.weight.shape == (512, 128)
    assert [tuple(layer.weight.shape) for layer in q[::2]] == [(1024, 392), (256, 1024), (196, 256)]
    assert model.selector.memory.shape == (30, 196) and not model.pos_embed.requires_grad


def test_what_it_costs_is_counted_with_the_choice():
    model, tokens = AgentViT(5, img_size=64, dim=32, depth=2, heads=2, mlp_dim=64).eval(), 16
    inner = 128

    def blocks(kept):
        return 2 * (kept * (4 * 32 * inner + 2 * 32 * 64) + 2 * kept**2 * inner) + 5 * 32

    embedding, agent = 768 * 32, tokens * 32 * 2 * inner + tokens**2 * inner + 32 * 1024 + 1024 * 256 + 256 * 16
    counted = cost.gmacs(model, 64, 0.5)
    assert counted.selector * 1e9 == agent
    assert round(counted.total * 1e9) == tokens * embedding + agent + blocks(8)
    assert round(cost.gmacs(model, 64, 0.5, "random").total * 1e9) == 8 * embedding + blocks(8)  # embeds only those
    assert round(cost.gmacs(model, 64, 1.0).total * 1e9) == tokens * embedding + blocks(16)


@torch.no_grad()
def test_embedding_only_the_kept_patches_changes_nothing():
    torch.manual_seed(2)
    model, images = AgentViT(5, img_size=32, patch_size=8, dim=32, depth=1).eval(), torch.randn(3, 3, 32, 32)
    kept = model.select(images, 0.4)
    tokens = model.patch_tokens(images)
    expected = torch.stack([t[k] for t, k in zip(tokens, kept, strict=True)])
    for block in model.blocks:
        expected = block(expected)
    torch.testing.assert_close(model(images, kept=kept), model.forward_head(model.norm(expected)), atol=1e-5, rtol=0)
    torch.testing.assert_close(model(images, kept=kept), model(images, 0.4), atol=1e-5, rtol=0)
