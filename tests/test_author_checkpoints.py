"""Parity with the published ASEL model, written here a second time from the paper's equations."""

import pickle

import pytest
import timm
import torch
from torch import nn

import asel_lib
from asel_lib.errors import CheckpointError
from asel_lib.selection import keep_count


class PublishedASEL(nn.Module):
    """The published layout: `backbone` (a plain timm ViT) and `patch_selector` (a plain Sequential on [z || g])."""

    def __init__(self, num_classes=5, **settings):
        super().__init__()
        self.backbone = timm.create_model("vit_tiny_patch16_224", num_classes=num_classes, **settings)
        dim = self.backbone.embed_dim
        self.patch_selector = nn.Sequential(
            nn.Linear(2 * dim, 96), nn.LayerNorm(96), nn.ReLU(), nn.Linear(96, 1), nn.Sigmoid()
        )

    def embed(self, images):
        vit = self.backbone
        return vit.patch_embed(images) + vit.pos_embed[:, 1:], (vit.cls_token + vit.pos_embed[:, :1]).expand(
            len(images), -1, -1
        )

    def scores(self, patches):
        mean = patches.mean(1, keepdim=True).expand_as(patches)
        return self.patch_selector(torch.cat([patches, mean], -1)).squeeze(-1)

    def head(self, tokens):
        vit = self.backbone
        for block in vit.blocks:
            tokens = block(tokens)
        return vit.head(vit.norm(tokens)[:, 0])

    def gather(self, images, kept):
        patches, cls = self.embed(images)
        return self.head(torch.cat([cls, torch.stack([p[k] for p, k in zip(patches, kept, strict=True)])], 1))

    def masked(self, images, ratio):
        patches, cls = self.embed(images)
        scores = self.scores(patches)
        mask = torch.zeros_like(scores)
        for row, s in zip(mask, scores, strict=True):
            row[s.topk(keep_count(len(s), ratio)).indices] = 1
        mask = (mask - scores).detach() + scores
        return self.head(torch.cat([cls, patches * mask.unsqueeze(-1)], 1)), scores


@pytest.fixture
def published(tmp_path):
    torch.manual_seed(3)
    model = PublishedASEL(img_size=64, patch_size=8, embed_dim=192, depth=2, num_heads=3).eval()
    torch.save(model.state_dict(), tmp_path / "aid_finetuned.pth")
    return model, tmp_path / "aid_finetuned.pth"


@pytest.mark.parametrize("ratio", [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0])
@torch.no_grad()
def test_a_published_checkpoint_gives_the_published_logits_at_every_ratio_and_policy(published, ratio):
    theirs, path = published
    ours, images = asel_lib.load_published(path), torch.randn(3, 3, 64, 64)
    patches, _ = theirs.embed(images)
    keep = keep_count(64, ratio)
    rows, columns = torch.meshgrid(torch.arange(8) - 3.5, torch.arange(8) - 3.5, indexing="ij")
    central = (rows**2 + columns**2).flatten().argsort(stable=True)[:keep]
    chosen = {
        "learned": theirs.scores(patches).topk(keep).indices,
        "central": central.expand(3, -1),
        "random": ours.select(images, ratio, "random"),  # its generator cannot be the published one's
    }
    for policy, kept in chosen.items():
        torch.testing.assert_close(ours(images, ratio, policy), theirs.gather(images, kept), atol=1e-4, rtol=0)


def test_training_forward_and_gradients_are_the_published_ones(published):
    theirs, path = published
    ours, images = asel_lib.load_published(path), torch.randn(2, 3, 64, 64)
    expected, scores = theirs.masked(images, 0.3)
    logits, selection = ours(images, 0.3, mode="mask", return_selection=True)
    torch.testing.assert_close(logits, expected, atol=1e-4, rtol=0)
    torch.testing.assert_close(selection.scores, scores, atol=1e-5, rtol=0)
    expected.square().sum().backward()
    logits.square().sum().backward()
    torch.testing.assert_close(
        ours.selector.mlp[0].weight.grad, theirs.patch_selector[0].weight.grad, atol=1e-4, rtol=1e-3
    )


def test_size_patch_depth_and_classes_are_read_off_the_tensors(published):
    _, path = published
    model = asel_lib.load_published(path, classes=("a", "b", "c", "d", "e"))
    assert model.patch_embed.num_patches == 64
    assert len(model.blocks) == 2
    assert model.classes == ("a", "b", "c", "d", "e")
    with pytest.raises(ValueError, match="2 class names for a head of 5"):
        asel_lib.load_published(path, classes=("a", "b"))


def test_a_file_of_another_kind_is_named(tmp_path):
    torch.save({"model_state": {}, "config": {}}, tmp_path / "agent.pth")
    with pytest.raises(CheckpointError, match="agent.pth: expected a plain state dict"):
        asel_lib.load_published(tmp_path / "agent.pth")
    torch.save({"conv1.weight": torch.zeros(3)}, tmp_path / "resnet.pth")
    with pytest.raises(
        CheckpointError, match="resnet.pth: not a published ASEL or line-guided checkpoint: it lacks backbone.pos_embed"
    ):
        asel_lib.load_published(tmp_path / "resnet.pth")
    with pytest.raises(CheckpointError, match="missing.pth"):
        asel_lib.load_published(tmp_path / "missing.pth")


def test_code_in_a_pickle_is_never_run(tmp_path):
    class Bomb:
        def __reduce__(self):
            return pytest.fail, ("the pickle was executed",)

    (tmp_path / "bomb.pth").write_bytes(pickle.dumps(Bomb()))
    torch.save(Bomb(), tmp_path / "zipped.pth")
    for name in ("bomb.pth", "zipped.pth"):
        with pytest.raises(CheckpointError, match="not a readable .pth"):
            asel_lib.load_published(tmp_path / name)
