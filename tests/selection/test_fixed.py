import numpy as np
import torch

from asel_lib.selection import View, create
from asel_lib.selection.sampling import image_seeds, seeded_uniform


def test_random_is_uniform_and_seeded_by_the_image():
    images = torch.randn(400, 3, 8, 8)
    values = seeded_uniform(image_seeds(images), 50)
    assert torch.equal(values, seeded_uniform(image_seeds(images), 50))
    assert abs(values.mean().item() - 0.5) < 0.01
    assert abs(values.var().item() - 1 / 12) < 0.005
    # neighbouring patches and neighbouring images are unrelated
    assert abs(np.corrcoef(values[:, 0], values[:, 1])[0, 1]) < 0.2
    assert abs(np.corrcoef(values[0], values[1])[0, 1]) < 0.5


def test_one_changed_pixel_or_another_draw_changes_the_seed():
    image = torch.zeros(1, 3, 8, 8)
    changed = image.clone()
    changed[0, 1, 2, 3] = 1e-3
    seeds = [image_seeds(image).item(), image_seeds(changed).item(), image_seeds(image, draw_index=1).item()]
    assert len(set(seeds)) == 3


def test_memory_layout_does_not_change_the_seed():
    images = torch.randn(2, 3, 8, 8)
    assert torch.equal(image_seeds(images), image_seeds(images.to(memory_format=torch.channels_last)))


def test_central_keeps_the_middle_of_any_grid():
    scores = create("central", 8)(View(torch.zeros(1, 3, 24, 40), (3, 5)))
    assert scores[0].argmax().item() == 7
    assert scores[0].argsort(descending=True)[:3].tolist()[0] == 7
    assert scores[0, 0] == scores[0, 14] == scores.min()
