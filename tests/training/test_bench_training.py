"""Trainings timed in turn, among them the authors' loop."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from asel_lib import configs
from asel_lib.configs import StageSettings
from asel_lib.training import bench_training
from asel_lib.training.author_loop import AuthorLoop, Files


@pytest.fixture
def smoke(workplace):
    return replace(configs.load("smoke"), synthetic_images=120)


def test_the_authors_loop_is_a_base_to_measure_against(smoke):
    table = bench_training.in_turn(
        smoke, images=64, rounds=2, base="author_loop", only=("dropped", "anytime"), workers=0, progress=False
    ).set_index("training")
    assert list(table.index) == ["anytime", "dropped", "author_loop"]
    assert (table["images_per_second"] > 0).all()
    assert table.loc["author_loop", "times_author_loop"] == 1
    row = table.loc["anytime"]
    assert row["times_author_loop_low"] <= row["times_author_loop"] <= row["times_author_loop_high"]


def test_an_unknown_training_is_named(smoke):
    with pytest.raises(
        ValueError,
        match="unknown training 'droped': expected one of agent, anytime, dropped, masked, agentvit, author_loop",
    ):
        bench_training.in_turn(smoke, images=8, only=("droped",))


def test_the_authors_loop_learns_from_files(tmp_path, tiny):
    """Dark against bright: its loss falls, so that what is timed is a training."""
    files, labels = [], []
    for number in range(16):
        files.append(tmp_path / f"{number}.png")
        labels.append(number % 2)
        Image.fromarray(np.full((40, 50, 3), 200 if labels[-1] else 30, np.uint8)).save(files[-1])
    torch.manual_seed(0)
    model = tiny(selector="learned")
    settings = StageSettings(epochs=1, lr_selector=1e-3, lr_backbone=1e-3, lr_head=1e-3, batch_size=8, full_epochs=0)
    loop = AuthorLoop(model, Files(files, labels, 32), settings, 0, torch.device("cpu"))
    dataset = loop.loader.dataset
    images, wanted = torch.stack([image for image, _ in dataset]), torch.tensor([label for _, label in dataset])
    assert images.shape == (16, 3, 32, 32)
    for _ in range(8):
        assert loop.epoch() > 0
    assert (model.eval()(images).argmax(dim=1) == wanted).all()
