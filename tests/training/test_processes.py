"""One process, two, or several passes a batch: the same training."""

import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from asel_lib import configs
from asel_lib.data.batches import Batches, augment
from asel_lib.data.decode import ImageArray
from asel_lib.errors import TrainingError
from asel_lib.reproducibility import BatchSliceGenerator, generator, uniform
from asel_lib.training import optimizers, processes, stages, supervised
from asel_lib.training.agent_settings import AgentSettings
from asel_lib.training.recipes.agent import AgentRun
from asel_lib.training.recipes.anytime import AnytimeRun, AnytimeSettings
from asel_lib.training.recipes.dropped import DroppedRun
from asel_lib.training.recipes.masked import MaskedRun
from asel_lib.training.state import TrainingFiles, read_state, write_state

SETTINGS = replace(
    configs.load("smoke").warmup, epochs=2, batch_size=16, clip_gradient=1.0, schedule="cosine", augmentation="dihedral"
)
RUNS = {
    "masked": MaskedRun,
    "dropped": DroppedRun,
    "anytime": partial(AnytimeRun, recipe_settings=AnytimeSettings()),
    "agent": partial(AgentRun, recipe_settings=AgentSettings(reward_every=1, replay=4, draw=2)),
}
CASES = [("masked", "learned"), ("dropped", "learned"), ("dropped", "dynamicvit"), ("anytime", "glance")]
CASES += [("anytime", "learned"), ("anytime", "random")]


def plain_descent(model, settings, excluded=()):
    """Adam makes a whole step of a gradient that is nothing but rounding (the biases of keys); descent does not."""
    kept = [p for name, p in model.named_parameters() if not name.startswith(excluded)]
    return torch.optim.SGD(kept, lr=0.05, momentum=0.9)


def data(train=33) -> list[Batches]:
    """(train, val) of two classes that are hard to tell; the last batch of 33 has one image: none for the second."""
    rng, labels = np.random.default_rng(0), np.arange(train + 23) % 2
    pixels = (rng.integers(0, 200, (train + 23, 32, 32, 3)) + labels[:, None, None, None] * 20).astype(np.uint8)
    names = tuple(map(str, range(train + 23)))
    images = ImageArray("tones", pixels, labels, ("dark", "bright"), names, names)
    parts = np.arange(train), np.arange(train, train + 23)
    return [Batches(images, part, image_size=32, batch_size=16) for part in parts]


def trained(tiny, recipe, selector, **options):
    """-> the weights, and what its history says."""
    model = tiny(2, selector, depth=4 if selector == "dynamicvit" else 2)
    settings = options.pop("settings", SETTINGS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(optimizers, "optimizer", plain_descent)
        made = supervised.train(model, *data(), settings, run_class=RUNS[recipe], seed=3, progress=False, **options)
    columns = [name for name in made.history if name.startswith(("train_", "val_", "keep_"))]
    return {name: value.float() for name, value in model.state_dict().items()}, made.history[columns].to_numpy()


def same(one, other):
    for name, value in one[0].items():
        torch.testing.assert_close(
            other[0][name], value, atol=1e-5, rtol=0, msg=lambda text, name=name: f"{name}: {text}"
        )
    np.testing.assert_allclose(other[1], one[1], atol=1e-5)  # accuracies are counts: equal, or off by 1 / 33


def launched(*script, succeeds=True) -> str:
    """Start a script of Python with its arguments in two processes -> what they said."""
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"]
    command = [*launch, "--main_process_port", "0", *map(str, script)]  # 0: a free one, other tests launch too
    done = subprocess.run(command, text=True, capture_output=True, timeout=300)
    assert (done.returncode == 0) == succeeds, done.stderr
    return done.stdout + done.stderr


def each_case(tiny, folder):
    """What a launched process does: train each case and leave what came out."""
    for number, (recipe, selector, passes) in enumerate((*case, passes) for case in CASES for passes in (1, 3)):
        state = folder / f"{number}.safetensors"
        options = dict(accumulation_steps=passes, state_file=state, save_seconds=0.0)
        weights, history = trained(tiny, recipe, selector, **options)
        with open(folder / f"{number}_{processes.joined('cpu').process_index}.made", "wb") as file:
            write_state(file, {"weights": weights, "history": history.tolist()})


@pytest.mark.slow
def test_two_processes_make_what_one_makes(tiny, tmp_path):
    launched(__file__, each_case.__name__, tmp_path)
    begun = tiny(2).state_dict()["head.weight"]
    for number, (recipe, selector) in enumerate(CASES):
        alone = trained(tiny, recipe, selector)
        assert (alone[0]["head.weight"] - begun).abs().max() > 1e-3, "nothing was learned that could differ"
        for passes in (0, 1):
            for process in (0, 1):
                made = read_state(tmp_path / f"{2 * number + passes}_{process}.made")
                same(alone, (made["weights"], made["history"]))


@pytest.mark.parametrize(("recipe", "selector"), [*CASES[:2], *CASES[3:5], ("agent", "agent")])
def test_several_passes_a_batch_make_what_one_makes(tiny, recipe, selector):
    same(trained(tiny, recipe, selector), trained(tiny, recipe, selector, accumulation_steps=3))


def resumed(tiny, folder):
    """What a launched process does: go on from a state that a process alone left."""
    weights, history = trained(tiny, "anytime", "glance", state_file=folder / "run.pt")
    with open(folder / f"{processes.joined('cpu').process_index}.made", "wb") as file:
        write_state(file, {"weights": weights, "history": history.tolist()})


@pytest.mark.slow
def test_two_processes_go_on_where_one_was_killed(tiny, tmp_path, monkeypatch):
    steps, plain = [], AnytimeRun.update

    def dying(self, step):
        if len(steps) == 4:  # of three an epoch
            raise KeyboardInterrupt
        steps.append(1)
        plain(self, step)

    whole = trained(tiny, "anytime", "glance")
    monkeypatch.setattr(AnytimeRun, "update", dying)
    with pytest.raises(KeyboardInterrupt):
        trained(tiny, "anytime", "glance", state_file=tmp_path / "run.pt", save_seconds=0.0)
    said = launched(__file__, resumed.__name__, tmp_path)
    assert said.count("going on from epoch 2, step 1/3") == 1, "said by the first process"
    for process in (0, 1):
        made = read_state(tmp_path / f"{process}.made")
        same(whole, (made["weights"], made["history"]))


def lost(tiny, folder):
    """Only the second process finds the state of a run that was killed."""
    file = folder / ("run.pt" if processes.joined("cpu").process_index == 1 else "none.pt")
    with pytest.raises(TrainingError, match="would go on from epoch .* and others from elsewhere"):
        trained(tiny, "dropped", "learned", state_file=file)


@pytest.mark.slow
def test_processes_that_do_not_share_a_disk_are_told_so(tiny, tmp_path):
    trained(tiny, "dropped", "learned", state_file=tmp_path / "run.pt")
    launched(__file__, lost.__name__, tmp_path)


def all_reduce(tiny, folder):
    """The sum over processes and its gradient, by torch and by us; the loss differs from process to process."""
    found, rank = [], processes.joined("cpu").process_index
    for sum_over_processes in (processes._AllReduce.apply, torch.distributed.nn.functional.all_reduce):
        values = (torch.arange(6.0).view(2, 3).T * (rank + 1)).requires_grad_()
        total = sum_over_processes(values)
        (total.square().sum() * (rank + 2)).backward()
        found.append((total, values.grad))
    assert torch.equal(found[0][0], found[1][0]) and torch.equal(found[0][1], found[1][1])
    torch.testing.assert_close(found[0][1], 10 * found[0][0])  # 2 * total * (2 + 3), in each process


@pytest.mark.slow
def test_the_sum_over_processes_has_the_gradient_of_torchs_own(tmp_path):
    launched(__file__, all_reduce.__name__, tmp_path)


@pytest.mark.slow
def test_two_processes_share_a_stage_and_the_next_calls_find_what_they_made(workplace):
    training = "asel_lib.training warm_up --profile smoke --recipe anytime --device cpu"
    said = launched("-m", *training.split())
    assert said.count("epoch 2/2: loss") == said.count(": epoch 2 of 2, val ") == 1, "by the first process"
    assert launched("-m", *training.split()).count("already trained") == 1
    assert not list((workplace / "benchmarks_results").rglob("state/*"))
    shared = stages.warm_up(configs.load("smoke"), recipe="anytime", progress=False)
    assert shared.reused and shared.record["training_processes"] == 2
    alone = stages.warm_up(configs.load("smoke"), recipe="anytime", retrain=True, progress=False)
    assert alone.record["metrics"]["val_accuracy"] == shared.record["metrics"]["val_accuracy"]
    columns = ["train_loss", "train_accuracy", "keep_ratio"]
    np.testing.assert_allclose(alone.history[columns], shared.history[columns], atol=1e-4)


@pytest.mark.slow
def test_an_agent_is_not_shared(workplace):
    said = launched("-m", *"asel_lib.training agentvit --profile smoke --device cpu".split(), succeeds=False)
    assert "error: an agent learns in one process, and 2 were launched" in said
    assert not list(workplace.rglob("checkpoints"))


def test_more_processes_than_gpus_are_refused(monkeypatch):
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    monkeypatch.setattr(processes, "default_device", lambda: torch.device("cuda"))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(ValueError, match="2 processes were launched on a machine with 1 GPUs.*--device cpu"):
        processes.joined()
    assert processes.joined("cpu").device.type == "cpu"


def test_a_process_alone_may_train_in_another_precision_than_before():
    for precision, mixed in (("float32", "no"), ("bfloat16", "bf16"), ("float32", "no")):
        made = processes.accelerator(torch.device("cpu"), precision)
        assert (made.mixed_precision, made.num_processes) == (mixed, 1)
    with pytest.raises(ValueError, match="precision is 'float16', which trains on a GPU alone"):
        processes.accelerator(torch.device("cpu"), "float16")


def test_images_draw_what_they_draw_in_the_whole_batch():
    rows = np.array([1, 2, 5])
    part = BatchSliceGenerator(generator(0), 7, rows)
    whole = generator(0)
    for shape, images in (((3, 4), 0), ((5, 3), 1), ((3,), 0)):
        full = torch.rand([7 if place == images else length for place, length in enumerate(shape)], generator=whole)
        assert torch.equal(uniform(shape, part, images), full.index_select(images, torch.from_numpy(rows)))
    with pytest.raises(ValueError, match="2 images draw with the generator of 3"):
        uniform((2, 4), part)


@pytest.mark.parametrize("kind", ["flip", "dihedral", "crop_jitter"])
def test_images_are_augmented_as_in_the_whole_batch(kind):
    images, rows = torch.randint(0, 255, (6, 3, 16, 16), dtype=torch.uint8), np.array([0, 3, 4])
    whole, _ = augment(images, kind, generator(0))
    part, _ = augment(images[rows], kind, BatchSliceGenerator(generator(0), 6, rows))
    assert torch.equal(part, whole[rows])
    none, _ = augment(images[:0], kind, BatchSliceGenerator(generator(0), 6, rows[:0]))
    assert len(none) == 0


def test_every_process_has_its_part_of_each_kind_of_work(tiny):
    run = AnytimeRun(
        tiny(2, "glance"),
        data()[0],
        None,
        SETTINGS,
        seed=0,
        precision="float32",
        val_ratios=(1.0,),
        identity="",
        files=TrainingFiles(),
        recipe_settings=AnytimeSettings(),
    )
    order = run.shard_order(64)
    assert sorted(order) == list(range(64))
    for hand in (order[first::4] for first in range(4)):
        assert (hand < 8).sum() == 2  # of the eight images that pass whole
        assert np.ptp(np.bincount(hand % 4)) <= 2  # of the groups, each with its keep ratio


if __name__ == "__main__":  # one of the processes that `launched` starts
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from conftest import tiny_model

    name, folder = sys.argv[1:]
    {made.__name__: made for made in (each_case, resumed, lost, all_reduce)}[name](tiny_model, Path(folder))
