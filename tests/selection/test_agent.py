import pytest
import torch

from asel_lib import selection
from asel_lib.selection.agent import at_least_mean


@pytest.fixture
def model(tiny):
    model = tiny(selector="agent")
    model.selector.memory.uniform_(generator=torch.Generator().manual_seed(0))
    with torch.no_grad():  # so that masks differ from image to image
        model.blocks[0].attn.qkv.weight.mul_(20)
        model.selector.q_network[0].weight[:, :16].mul_(20)
    return model


@torch.no_grad()
def test_the_state_is_the_first_blocks_attention_over_patches(model):
    tokens = model.patch_tokens(torch.randn(2, 3, 32, 32))
    layer, heads = model.blocks[0].attn, []
    query, key, _ = layer.qkv(model.blocks[0].norm1(tokens)).chunk(3, dim=-1)
    for part in range(3):
        at = slice(part * 16, part * 16 + 16)
        heads.append((query[..., at] @ key[..., at].transpose(1, 2) / 4).softmax(-1).mean(1))
    torch.testing.assert_close(model.selector.attention(tokens, model.blocks[0]), torch.stack(heads).mean(0))


@torch.no_grad()
def test_an_images_mask_does_not_depend_on_its_batch(model):
    images = torch.randn(5, 3, 32, 32)
    together = model.select(images, 0.4)
    assert len(together.unique(dim=0)) > 1
    assert together.tolist() == [model.select(image[None], 0.4)[0].tolist() for image in images]
    torch.testing.assert_close(model(images, 0.4)[2:3], model(images[2:3], 0.4), atol=1e-5, rtol=0)


def test_a_class_without_a_row_in_the_memory_is_named(model):
    attention = torch.full((3, 16), 1 / 16)
    with pytest.raises(ValueError, match="class 4, 7 is missing from the agent's memory, which has the classes 0 to 3"):
        model.selector.values(attention, torch.tensor([4, 1, 7]))
    with pytest.raises(ValueError, match="class -1 is missing"):
        model.selector.remember(torch.tensor([-1]), torch.ones(16), 0.01)


def test_masks_are_remembered_by_class_one_image_after_the_other(model):
    before, mask, labels = model.selector.memory.clone(), (torch.arange(16) % 3 == 0), torch.tensor([2, 0, 2, 2])
    model.selector.remember(labels, mask, 0.1)
    for label in labels:
        before[label] = 0.9 * before[label] + 0.1 * mask.float()
    torch.testing.assert_close(model.selector.memory, before)


def test_images_of_another_size_than_the_agent_was_made_for_are_an_error(tiny):
    model = tiny(selector="agent", dynamic_img_size=True)
    with pytest.raises(ValueError, match="36 patches, but this agent's Q-network was made for 16"):
        model(torch.randn(1, 3, 48, 48), 0.5)


def test_an_agent_belongs_to_its_model(tiny):
    with pytest.raises(ValueError, match="an agent belongs to a model"):
        selection.create("agent", 48)(selection.View(torch.randn(1, 3, 32, 32), (4, 4)))
    with pytest.raises(ValueError, match="policy 'agent' has trained weights"):
        tiny(selector="learned")(torch.randn(1, 3, 32, 32), 0.5, "agent")


def test_the_action_keeps_what_is_at_least_the_mean():
    assert at_least_mean(torch.tensor([0.0, 1.0, 0.5, 0.2])).tolist() == [False, True, True, False]
    assert at_least_mean(torch.tensor([0.1] * 7)).any()  # their float32 mean is above each of them, or not
    assert at_least_mean(torch.full((49,), 0.1)).any()


@torch.no_grad()
def test_given_patches_are_kept_whatever_the_selector_says(tiny):
    model, images = tiny(selector="learned"), torch.randn(2, 3, 32, 32)
    kept = torch.tensor([[3, 9], [0, 15]])
    logits, chosen = model(images, kept=kept, return_selection=True)
    assert chosen.kept.tolist() == kept.tolist()
    random = model.select(images, 0.2, "random")
    torch.testing.assert_close(model(images, kept=random), model(images, 0.2, "random"), atol=1e-5, rtol=0)
    hybrid = tiny(selector="learned", dynamic_img_pad=True)  # a patch embedding that cannot leave patches out
    hybrid.load_state_dict(model.state_dict())
    torch.testing.assert_close(hybrid(images, kept=kept), logits, atol=1e-5, rtol=0)
    for wrong in (kept[:1], kept[0], torch.zeros(2, 17, dtype=torch.long), kept[:, :0]):
        with pytest.raises(ValueError, match=r"kept is \(.*expected \(2, K\), indices of 1 to 16 patches"):
            model(images, kept=wrong)
    for wrong in (torch.tensor([[3, 16], [0, 1]]), torch.tensor([[-1, 3], [0, 1]])):
        with pytest.raises(ValueError, match="kept has an index outside of 0 to 15"):
            model(images, kept=wrong)
