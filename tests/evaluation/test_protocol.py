"""Fair at test: no label reaches the policy, no image another's mask; and what the published protocol does instead."""

import numpy as np
import pytest
import torch

from asel_lib import configs
from asel_lib.evaluation.accuracy import evaluate
from asel_lib.evaluation.leaks import (
    attention_macs,
    cached_split,
    in_common,
    leaks,
    moved_by_labels,
    moved_split,
    second_test_part,
)
from asel_lib.evaluation.protocol import Protocol
from asel_lib.training import stages


@pytest.fixture
def model(tiny):
    """An agent whose masks differ from image to image, and whose memory differs from class to class."""
    model = tiny(selector="agent")
    memory = torch.rand(4, 16, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        model.selector.memory.copy_(2 * memory)
        model.blocks[0].attn.qkv.weight.mul_(20)
        model.selector.q_network[0].weight[:, :16].mul_(20)
    return model


def batches(size, count=10, classes=4):
    generator = torch.Generator().manual_seed(2)
    images, labels = torch.randn(count, 3, 32, 32, generator=generator), torch.arange(count) % classes
    return [(images[i : i + size], labels[i : i + size]) for i in range(0, count, size)]


def kept(model, given, protocol="fair", policies=("agent",)):
    """What each image keeps while `evaluate` runs."""
    seen = []
    hook = model.register_forward_hook(lambda module, args, output: seen.append(output[1].kept))
    try:
        frame = evaluate(model, given, [0.3], list(policies), protocol=protocol, progress=False)
    finally:
        hook.remove()
    return torch.cat(seen), frame


def test_other_labels_get_the_same_masks(model):
    given = batches(5)
    others = [(images, (labels + 1) % 4) for images, labels in given]
    assert torch.equal(kept(model, given)[0], kept(model, others)[0])
    known, _ = kept(model, given, Protocol(labels=True))
    assert not torch.equal(known, kept(model, others, Protocol(labels=True))[0]), "else this test cannot fail"


def test_other_batches_get_the_same_masks_and_accuracy(model):
    (masks, frame), (alone, other) = kept(model, batches(5)), kept(model, batches(1))
    assert torch.equal(masks, alone) and len(masks.unique(dim=0)) > 1
    assert frame["accuracy"].tolist() == other["accuracy"].tolist()
    shared, _ = kept(model, batches(5), Protocol(one_mask=True))
    assert (shared[:5] == shared[0]).all() and not torch.equal(
        shared, kept(model, batches(2), Protocol(one_mask=True))[0]
    )


def test_the_published_protocol_leaves_out_the_last_batch_and_calls_the_first_patches_random(model):
    masks, frame = kept(model, batches(4), "published", ["random"])
    assert frame["n_images"].tolist() == [8] and (masks == torch.arange(4)).all()
    masks, frame = kept(model, batches(4), "fair", ["random"])
    assert frame["n_images"].tolist() == [10] and not (masks == torch.arange(4)).all()


def test_the_published_mask_is_the_best_of_the_mean_value_by_known_labels(model):
    ((images, labels),) = batches(6, count=6)
    masks, _ = kept(model, [(images, labels)], "published")
    with torch.no_grad():
        attention = model.selector.attention(model.patch_tokens(images), model.blocks[0])
        values = model.selector.values(attention, labels).mean(0)
    assert masks[3].tolist() == values.topk(4).indices.tolist()


def test_other_selectors_are_the_same_by_either_protocol(tiny):
    model = tiny(selector="learned")
    masks = [kept(model, batches(5), protocol, ["learned"])[0] for protocol in ("fair", "published")]
    assert torch.equal(*masks)


def test_a_class_that_the_agent_remembers_nothing_of_is_named(model):
    model.selector.memory[2] = 0
    assert len(kept(model, batches(5))[0]) == 10
    with pytest.raises(ValueError, match="class 2 is missing from the agent's memory"):
        kept(model, batches(5), "published")


def test_a_data_set_with_more_classes_than_the_model_is_named(model):
    with pytest.raises(ValueError, match="an image is of class 5, and the model has 4 classes"):
        kept(model, batches(6, classes=6))


def test_an_unknown_protocol_is_named(model):
    with pytest.raises(ValueError, match="unknown protocol 'leaky': expected one of fair, published"):
        kept(model, batches(6), "leaky")


def test_masks_in_common():
    assert in_common(torch.tensor([[0, 1], [1, 0], [0, 1]])) == 1
    assert in_common(torch.tensor([[0, 1], [1, 2]])) == 0.5
    assert in_common(torch.tensor([[0, 1], [2, 3]])) == 0


def test_labels_move_masks_only_where_memories_differ(model):
    ((images, labels),) = batches(8, count=8)
    assert 0 < moved_by_labels(model, images, labels, 0.3) < 1
    model.selector.memory.copy_(model.selector.memory[:1].expand(4, -1).clone())
    assert moved_by_labels(model, images, labels, 0.3) == 0


def test_leaks_are_scored_on_both_splits(workplace):
    profile = configs.load("smoke")
    stage = stages.agentvit(profile, progress=False)
    model = stage.model
    model.selector.memory.uniform_()
    model.record = stage.record
    table = leaks(model, [0.5], progress=False)
    assert table.groupby("split").size().to_dict() == {"its own": 4, "second, unseeded": 4}
    assert (table.loc[table["split"] == "its own", "trained_on"] == 0).all()
    assert table.loc[table["split"] != "its own", "trained_on"].between(0.6, 0.95).all()  # 80 % of them, by chance
    published = (table["labels"] == "known") & (table["mask"] == "one a batch")
    assert (table.loc[published, "n_images"] == 32).all() and (table.loc[~published, "n_images"] == 40).all()


def test_the_second_split_is_another_one(workplace):
    from asel_lib.data.sets import open_set

    images, split = open_set(configs.load("smoke"), "synthetic")
    parts = [second_test_part(images, seed) for seed in (1, 1, 2)]
    np.testing.assert_array_equal(parts[0], parts[1])
    assert len(parts[0]) == len(split.test) and set(parts[0]) != set(parts[2]) and set(parts[0]) != set(split.test)


def test_a_cached_warmup_moves_the_published_split():
    found = cached_split(500, warmup_images=1000, epochs=2)
    assert found["test_images"] == 100 and 0.7 < found["trained_on"] < 0.9
    assert cached_split(500, warmup_images=1000, epochs=0)["moved"] == 0  # nothing drawn before, the same split


class Rote(torch.nn.Module):
    """Knows the class of the images that it was shown, with all patches; nothing else."""

    def __init__(self, shown):
        super().__init__()
        self.known = {
            image.numpy().tobytes(): int(label)
            for images, labels in shown
            for image, label in zip(images, labels, strict=True)
        }
        self.unused = torch.nn.Parameter(torch.zeros(1))

    def forward(self, images, keep_ratio, policy, lines):
        answers = torch.tensor([self.known.get(image.numpy().tobytes(), 10) for image in images])
        return torch.nn.functional.one_hot(answers if keep_ratio == 1 else torch.full_like(answers, 10), 11).float()


def test_on_the_moved_split_what_was_trained_on_is_known_again(workplace):
    from asel_lib.data.sets import open_set, recorded_batches

    images, split = open_set(configs.load("smoke"), "synthetic")
    record = {
        "name": "rote",
        "source": "synthetic",
        "images": len(images),
        "dataset_fingerprint": images.fingerprint,
        "split": split.record(),
        "transform": {"size": 32, "mean": [0.5] * 3, "std": [0.5] * 3},
        "model": {"selector": "learned"},
    }
    seen = np.concatenate([split.train, split.val])
    model = Rote(recorded_batches(images, seen, record))
    model.record = record
    table = moved_split(model, [1.0, 0.5], batch_size=16, progress=False).set_index(["split", "keep_ratio"])
    assert table.loc[("its own", 1.0), ["accuracy", "trained_on", "n_images"]].tolist() == [0, 0, 40]
    moved = table.loc[("moved", 1.0)]
    assert 0.6 < moved["trained_on"] < 0.95 and moved["n_images"] == 40
    assert moved["accuracy"] == moved["trained_on"] and moved["accuracy_low"] < moved["accuracy"] < 1
    assert table.loc[("moved, trained on before", 1.0), "accuracy"] == 1
    assert table.loc[("moved, not trained on", 1.0), "accuracy"] == 0
    counts = table["n_images"].unstack()[1.0]
    assert counts["moved, trained on before"] + counts["moved, not trained on"] == 40
    assert (table.xs(0.5, level="keep_ratio")["accuracy"] == 0).all()


def test_without_the_attention_operator_the_count_lacks_all_that_is_quadratic():
    counts = attention_macs().set_index("count")["GMACs"]
    assert counts["by formula"] == pytest.approx(counts["with the fused attention operator"], rel=1e-4)
    missing = counts["with the fused attention operator"] - counts["without the fused attention operator"]
    assert missing == pytest.approx(12 * 2 * 197**2 * 192 / 1e9, rel=1e-6)
