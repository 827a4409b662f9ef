"""A call changes nothing in the model: threads, replicas, copies and tracers all get the call's own answer."""

import copy
import itertools
import threading

import pytest
import torch
from PIL import Image

import asel_lib
from asel_lib.data import batches
from asel_lib.errors import DatasetError
from asel_lib.models import AgentViT
from asel_lib.selection import names

POLICIES = (None, "random", "central", "line_guided:choice=top", "evit", "tome", "edge_energy")
RATIOS = (1.0, 0.5, 0.3, 0.1)


def images(count=3, seed=0, size=32):
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(seed))


def snapshot(model):
    """All that the model's modules hold, but for the tensors' values."""
    return {name: {key: id(value) for key, value in vars(module).items()} for name, module in model.named_modules()}


@pytest.mark.parametrize("selector", names())
def test_a_call_writes_nothing_to_the_model(tiny, selector):
    model = tiny(selector=selector, depth=4)
    with torch.no_grad():
        model(images(), 0.5)
        before = snapshot(model)
        for policy, ratio in itertools.product((None, "random", "evit"), RATIOS):
            model(images(), ratio, policy, return_selection=True)
        model.forward_features(images(), keep_ratio=0.5)
        model.select(images(), 1.0)
    assert snapshot(model) == before


@pytest.mark.parametrize("selector", ["learned", "glance"])
def test_eight_threads_on_one_model_get_the_answers_of_one(tiny, selector):
    model = tiny(selector=selector, depth=3)
    for parameter in model.selector.parameters():
        parameter.data.add_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    # Batches of one size: what is mixed up gives another answer, and no error that would be seen anyway.
    asked = [(images(2, seed), ratio, policy) for seed, ratio in enumerate(RATIOS) for policy in POLICIES]
    with torch.inference_mode():
        expected = [model(*call) for call in asked]
        kept = [model(*call, return_selection=True)[1].kept for call in asked]
    assert len({tuple(answer.flatten().tolist()) for answer in expected}) > len(asked) * 0.7
    wrong, start = [], threading.Barrier(8)

    def ask(first: int) -> None:
        start.wait()
        for number in (place % len(asked) for place in range(first, first + 2 * len(asked))):
            try:
                with torch.inference_mode():
                    logits, selection = model(*asked[number], return_selection=True)
                same = selection.kept is None if kept[number] is None else torch.equal(selection.kept, kept[number])
                if not (torch.equal(logits, expected[number]) and same):
                    wrong.append(asked[number][1:])
            except Exception as error:
                wrong.append(error)

    threads = [threading.Thread(target=ask, args=(5 * number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def replica_of(model):
    """A copy as torch.nn.parallel.replicate makes one on each device: shallow, its tensors plain attributes."""
    modules = list(model.modules())
    copies = [module._replicate_for_data_parallel() for module in modules]
    for made in copies:
        made._former_parameters = {}
    number = {module: place for place, module in enumerate(modules)}
    for module, made in zip(modules, copies, strict=True):
        for key, child in module._modules.items():
            made._modules[key] = None if child is None else copies[number[child]]
        for key, parameter in module._parameters.items():
            if parameter is None:
                made._parameters[key] = None
            else:
                setattr(made, key, parameter.detach().clone())
                made._former_parameters[key] = getattr(made, key)
        for key, buffer in module._buffers.items():
            made._buffers[key] = None if buffer is None else buffer.clone()
    return copies[0]


@pytest.mark.parametrize("selector", names())
@torch.no_grad()
def test_replicas_of_data_parallel_answer_for_their_own_part_of_the_batch(tiny, selector):
    model = tiny(selector=selector, depth=3)
    batch, replicas = images(8), [replica_of(model) for _ in range(2)]
    expected, found = model(batch, 0.4), [None, None]

    def ask(number: int) -> None:
        with torch.no_grad():
            found[number] = [replicas[number](batch.chunk(2)[number], 0.4) for _ in range(20)]

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number, part in enumerate(expected.chunk(2)):
        for answer in found[number]:
            torch.testing.assert_close(answer, part, atol=1e-5, rtol=0)


def test_a_replica_reads_its_own_weights(tiny):
    """On another device the original's are out of reach."""
    for selector in ("agent", "glance", "learned"):
        model = tiny(selector=selector)
        replica, expected = replica_of(model), model(images(), 0.4)
        for tensor in itertools.chain(model.parameters(), model.buffers()):
            tensor.data.fill_(float("nan")) if tensor.is_floating_point() else None
        torch.testing.assert_close(replica(images(), 0.4), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("selector", names())
def test_a_copy_and_a_pickle_answer_as_the_model(tiny, selector, tmp_path):
    model = tiny(selector=selector, depth=3)
    model.train()(images(), 0.5, mode="gumbel" if selector in ("learned", "dynamicvit") else "gather").sum().backward()
    model.eval()
    torch.save(model, tmp_path / "model.pt")
    for twin in (copy.deepcopy(model), torch.load(tmp_path / "model.pt", weights_only=False)):
        assert torch.equal(twin(images(), 0.4), model(images(), 0.4))
        twin.blocks[0].attn.qkv.weight.data.zero_()  # it is the copy's own
        assert not torch.equal(twin(images(), 0.4), model(images(), 0.4))


def test_an_agentvit_can_be_pickled(tmp_path):
    agent = AgentViT(3, img_size=32, patch_size=8, dim=32, depth=2, heads=2).eval()
    torch.save(agent, tmp_path / "agent.pt")
    assert torch.equal(torch.load(tmp_path / "agent.pt", weights_only=False)(images(), 0.5), agent(images(), 0.5))


@pytest.mark.skipif(not hasattr(batches, "Transform"), reason="a loaded model's transform is a local function")
def test_a_loaded_model_can_be_pickled(tmp_path):
    loaded = asel_lib.load("synthetic_anytime")
    torch.save(loaded, tmp_path / "loaded.pt")
    twin, picture = torch.load(tmp_path / "loaded.pt", weights_only=False), Image.new("RGB", (50, 40), "green")
    assert twin.predict([picture], 0.3) == loaded.predict([picture], 0.3) and twin.record == loaded.record


@pytest.mark.parametrize("selector", [*names(), "glance:choice=sample", "line_guided:choice=top"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@torch.no_grad()
def test_every_selector_works_in_every_precision(tiny, selector, dtype):
    model = tiny(selector=selector, depth=4)
    single = model(images(), 0.5)
    model.to(dtype)
    half = dtype != torch.float64
    assert {p.dtype for p in model.selector.parameters()} <= {torch.float32 if half else dtype}
    answer = model(images().to(dtype), 0.5)
    assert answer.dtype == dtype
    if not (half and model.selector.stochastic):  # other pixels, another draw
        torch.testing.assert_close(answer.float(), single, atol=0.1 if half else 1e-4, rtol=0)
    assert model(images().to(dtype)).dtype == dtype
    if selector in ("learned", "dynamicvit"):
        for mode in ("mask", "gumbel"):
            assert model.train()(images().to(dtype), 0.5, mode=mode).isfinite().all()


@torch.no_grad()
def test_features_are_timms_of_all_patches_or_those_of_the_kept_ones(tiny):
    model, batch = tiny(selector="learned"), images()
    assert model.forward_features(batch).shape == (3, 17, 48)
    assert torch.equal(model.forward_head(model.forward_features(batch)), model(batch))
    for policy, kept in ((None, 6), ("random", 6), ("tome", 6)):
        features = model.forward_features(batch, keep_ratio=0.4, policy=policy)
        assert features.shape == (3, 1 + kept, 48)
        assert torch.equal(model.forward_head(features), model(batch, 0.4, policy))
    chosen = torch.tensor([[3, 9]] * 3)
    assert torch.equal(model.forward_head(model.forward_features(batch, kept=chosen)), model(batch, kept=chosen))
    final, layers = model.forward_intermediates(batch, indices=1)
    assert torch.equal(final, model.forward_features(batch)) and layers[0].shape == (3, 48, 4, 4)
    mask = torch.ones(17, 17, dtype=torch.bool)
    torch.testing.assert_close(model.forward_features(batch, mask), model.forward_features(batch))
    with pytest.raises(ValueError, match="attn_mask and is_causal are for all patches"):
        model.forward_features(batch, mask, keep_ratio=0.5)


class AtHalf(torch.nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, batch):
        return self.model(batch, 0.5)


SLOW = ("random", "even", "smaller_image", "line_guided:choice=top", "agent", "evit", "tome", "dynamicvit")


@pytest.mark.parametrize(
    "selector", ["learned", "glance", *(pytest.param(one, marks=pytest.mark.slow) for one in SLOW)]
)
@torch.no_grad()
def test_a_call_can_be_exported_traced_and_compiled_whole(tiny, selector):
    model = AtHalf(tiny(selector=selector))
    other = images(3, seed=9)
    expected = model(other)
    exported = torch.export.export(model, (images(),)).module()
    torch.testing.assert_close(exported(other), expected, atol=1e-5, rtol=0)
    traced = torch.jit.trace(model, images(), check_trace=False)
    torch.testing.assert_close(traced(other), expected, atol=1e-5, rtol=0)
    torch.compiler.reset()
    whole = not selector.startswith("line_guided")  # its drawings are made with matrices by scipy
    compiled = torch.compile(model, fullgraph=whole, backend="eager")
    torch.testing.assert_close(compiled(images()), model(images()), atol=1e-5, rtol=0)
    torch.testing.assert_close(compiled(other), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("selector", ["glance", "even"])
@torch.no_grad()
def test_a_model_that_is_exported_before_its_first_call_answers_after_it(tiny, selector):
    model = AtHalf(tiny(selector=selector, img_size=(16, 56)))  # a grid that no other test has laid out
    batch = torch.randn(2, 3, 16, 56, generator=torch.Generator().manual_seed(3))
    exported = torch.export.export(model, (batch,)).module()
    torch.testing.assert_close(model(batch), exported(batch), atol=1e-5, rtol=0)


@torch.no_grad()
def test_a_policy_and_given_patches_can_be_compiled(tiny):
    model, kept = tiny(), torch.tensor([[1, 7, 3]] * 3)
    torch.compiler.reset()
    given = torch.compile(lambda batch, kept: model(batch, kept=kept), fullgraph=True, backend="eager")
    torch.testing.assert_close(given(images(), kept), model(images(), kept=kept))
    by_name = torch.compile(lambda batch: model(batch, 0.5, "random"), backend="eager")
    torch.testing.assert_close(by_name(images()), model(images(), 0.5, "random"))


def test_predict_runs_in_eval_mode_and_leaves_every_module_as_it_was(tiny):
    model = tiny(selector="glance", drop_rate=0.5)
    model.classes, model.transform = tuple("abcd"), lambda image: images(1)[0]
    expected = model.predict([Image.new("RGB", (8, 8))], 0.5)
    model.train()
    model.selector.eval()
    before = [module.training for module in model.modules()]
    assert model.predict([Image.new("RGB", (8, 8))], 0.5) == expected
    assert [module.training for module in model.modules()] == before and model.training


def test_predict_names_a_bad_image_by_its_place(tmp_path):
    model = asel_lib.load("synthetic_anytime").train()
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    pictures = [Image.new("RGB", (40, 40))] * 3
    with pytest.raises(DatasetError, match=r"images\[3\]: .*broken.jpg.*not a readable image"):
        model.predict([*pictures, tmp_path / "broken.jpg"], 0.5, batch_size=2)
    with pytest.raises(ValueError, match=r"images\[1\] is a NoneType: expected a path or a PIL image"):
        model.predict([pictures[0], None])
    assert model.training
