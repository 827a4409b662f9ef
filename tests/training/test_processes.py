"""One process, two, or several passes a batch: the same training."""

import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from asel_lib import configs
from asel_lib.configs import AgentSettings, AnytimeSettings
from asel_lib.data.batches import Batches, augment
from asel_lib.data.decode import ImageArray
from asel_lib.errors import TrainingError
from asel_lib.reproducibility import PartOf, generator, uniform
from asel_lib.training import optimizers, processes, supervised
from asel_lib.training.anytime import AnytimeRun
from asel_lib.training.reinforcement import AgentRun
from asel_lib.training.state import read_state, write_state

SETTINGS = replace(
    configs.load("smoke").warmup, epochs=2, batch_size=16, clip_gradient=1.0, schedule="cosine", augmentation="dihedral"
)
CASES = [("paper", "learned"), ("dropped", "learned"), ("dropped", "dynamicvit"), ("anytime", "glance")]
CASES += [("anytime", "learned"), ("anytime", "random")]


def plain_descent(model, settings, left_out=()):
    """Adam makes a whole step of a gradient that is nothing but rounding (the biases of keys); descent does not."""
    kept = [p for name, p in model.named_parameters() if not name.startswith(left_out)]
    return torch.optim.SGD(kept, lr=0.05, momentum=0.9)


def data(train=33) -> list[Batches]:
    """(train, val) of two classes that are hard to tell; the last batch of 33 has one image: none for the second."""
    rng, labels = np.random.default_rng(0), np.arange(train + 23) % 2
    pixels = (rng.integers(0, 200, (train + 23, 32, 32, 3)) + labels[:, None, None, None] * 20).astype(np.uint8)
    names = tuple(map(str, range(train + 23)))
    images = ImageArray("tones", pixels, labels, ("dark", "bright"), names, names)
    parts = np.arange(train), np.arange(train, train + 23)
    return [Batches(images, part, image_size=32, batch_size=16) for part in parts]


def trained(tiny, recipe, selector, pieces=None, **options):
    """-> the weights, and what its history says."""
    model = tiny(2, selector, depth=4 if selector == "dynamicvit" else 2)
    kind = partial(AnytimeRun, anytime=AnytimeSettings()) if recipe == "anytime" else None
    kind = partial(AgentRun, agent=AgentSettings(reward_every=1, replay=4, draw=2)) if recipe == "agent" else kind
    settings = options.pop("settings", SETTINGS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(optimizers, "optimizer", plain_descent)
        made = supervised.train(
            model, *data(), settings, recipe=recipe, seed=3, kind=kind, progress=False, pieces=pieces, **options
        )
    columns = [name for name in made.history if name.startswith(("train_", "val_", "keep_"))]
    return {name: value.float() for name, value in model.state_dict().items()}, made.history[columns].to_numpy()


def same(one, other):
    for name, value in one[0].items():
        torch.testing.assert_close(
            other[0][name], value, atol=1e-5, rtol=0, msg=lambda text, name=name: f"{name}: {text}"
        )
    np.testing.assert_allclose(other[1], one[1], atol=1e-5)  # accuracies are counts: equal, or off by 1 / 33


def in_each(tiny, cases, folder):
    """What a launched process does: train each case and leave what came out."""
    for number, (recipe, selector, pieces) in enumerate(cases):
        state = folder / f"{number}.safetensors"
        weights, history = trained(tiny, recipe, selector, pieces, state_file=state, save_seconds=0.0)
        with open(folder / f"{number}_{processes.joined().process_index}.made", "wb") as file:
            write_state(file, {"weights": weights, "history": history.tolist()})
        with pytest.raises(ValueError, match="an agent learns in one process, and 2 were asked for"):
            trained(tiny, "agent", "agent")


@pytest.mark.slow
def test_two_processes_make_what_one_makes(tiny, tmp_path):
    cases = [(*case, pieces) for case in CASES for pieces in (1, 3)]
    processes.launch(in_each, (tiny, cases, tmp_path), 2)
    begun = tiny(2).state_dict()["head.weight"]
    for recipe, selector in CASES:
        alone = trained(tiny, recipe, selector)
        assert (alone[0]["head.weight"] - begun).abs().max() > 1e-3, "nothing was learned that could differ"
        for number, case in enumerate(cases):
            if case[:2] == (recipe, selector):
                for process in (0, 1):
                    made = read_state(tmp_path / f"{number}_{process}.made")
                    same(alone, (made["weights"], made["history"]))


@pytest.mark.parametrize(("recipe", "selector"), [*CASES[:2], *CASES[3:5], ("agent", "agent")])
def test_several_passes_a_batch_make_what_one_makes(tiny, recipe, selector):
    same(trained(tiny, recipe, selector), trained(tiny, recipe, selector, pieces=3))


def lost(tiny, folder, process_with_state):
    """Only one process finds the state of a run that was killed."""
    file = folder / "run.pt" if processes.joined().process_index == process_with_state else folder / "none.pt"
    with pytest.raises(TrainingError, match="would go on from epoch .* and others from elsewhere"):
        trained(tiny, "dropped", "learned", state_file=file)


@pytest.mark.slow
def test_processes_that_do_not_share_a_disk_are_told_so(tiny, tmp_path):
    trained(tiny, "dropped", "learned", state_file=tmp_path / "run.pt", settings=replace(SETTINGS, epochs=2))
    processes.launch(lost, (tiny, tmp_path, 1), 2)


def failing(folder):
    if processes.joined().process_index == 1:
        raise RuntimeError("the second has no memory left")


def dying(folder):
    if processes.joined().process_index == 1:
        sys.exit(3)


@pytest.mark.slow
def test_the_error_of_a_process_is_raised_where_it_was_launched(tmp_path):
    with pytest.raises(TrainingError, match="process 1 of 2: RuntimeError: the second has no memory left$"):
        processes.launch(failing, (tmp_path,), 2)
    with pytest.raises(TrainingError, match="process 1 of 2: ended with status 3; the lines above say why$"):
        processes.launch(dying, (tmp_path,), 2)


@pytest.mark.slow
def test_a_launch_is_interrupted_like_any_other_call_and_so_is_what_follows():
    before = signal.getsignal(signal.SIGINT)

    def interrupt():
        while signal.getsignal(signal.SIGINT) is before:  # until the launcher answers signals
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        processes.launch(time.sleep, (300,), 2)
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.slow
def test_a_process_whose_launcher_was_killed_meanwhile_does_nothing():
    code = "import os; from asel_lib.training.processes import _begin; _begin({}, 1, print, 'worked')"
    orphan, child = (
        subprocess.run([sys.executable, "-c", code.format(parent)], text=True, capture_output=True, timeout=300)
        for parent in (-1, "os.getppid()")
    )
    assert (orphan.returncode, orphan.stdout) == (1, "")
    assert (child.returncode, child.stdout) == (0, "worked\n")


@pytest.mark.slow
def test_a_script_that_is_no_file_and_whose_threads_have_worked_may_launch(workplace):
    script = """
import torch
from asel_lib import configs
from asel_lib.training import stages
print("begun", torch.rand(999, 999) @ torch.rand(999, 999) is None)
stage = stages.warm_up(configs.load("smoke"), recipe="dropped", processes=2, progress=False)
print("processes:", stage.record["training_processes"])
"""
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    done = subprocess.run(
        [sys.executable, "-"], input=script, text=True, capture_output=True, timeout=300, env=environment
    )
    assert done.returncode == 0, done.stderr
    assert "processes: 2" in done.stdout and done.stdout.count("begun") == 1, "the script was run by each process"


def test_a_process_alone_may_train_in_another_precision_than_before():
    for precision, mixed in (("float32", "no"), ("bfloat16", "bf16"), ("float32", "no")):
        made = processes.accelerator(torch.device("cpu"), precision)
        assert (made.mixed_precision, made.num_processes) == (mixed, 1)
    with pytest.raises(ValueError, match="precision is 'float16', which trains on a GPU alone"):
        processes.accelerator(torch.device("cpu"), "float16")


def test_images_draw_what_they_draw_in_the_whole_batch():
    rows = np.array([1, 2, 5])
    part = PartOf(generator(0), 7, rows)
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
    part, _ = augment(images[rows], kind, PartOf(generator(0), 6, rows))
    assert torch.equal(part, whole[rows])
    none, _ = augment(images[:0], kind, PartOf(generator(0), 6, rows[:0]))
    assert len(none) == 0


def test_every_process_has_its_part_of_each_kind_of_work(tiny):
    run = AnytimeRun(
        tiny(2, "glance"),
        data()[0],
        None,
        SETTINGS,
        "anytime",
        0,
        "float32",
        (1.0,),
        None,
        None,
        anytime=AnytimeSettings(),
    )
    order = run.deal(64)
    assert sorted(order) == list(range(64))
    for hand in (order[first::4] for first in range(4)):
        assert (hand < 8).sum() == 2  # of the eight images that pass whole
        assert np.ptp(np.bincount(hand % 4)) <= 2  # of the groups, each with its keep ratio
