import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from asel_lib import paths
from asel_lib.data import lines
from asel_lib.data.batches import Batches, augment
from asel_lib.data.decode import load
from asel_lib.data.informative import Generator, read_generator
from asel_lib.errors import CheckpointError, DatasetError


def scene(height=96, width=96):
    """A grey square on a bright ground, its edges known: rows and columns 24..48 of 96."""
    image = torch.full((1, 3, height, width), 0.8)
    image[..., height // 4 : height // 2, width // 4 : width // 2] = 0.3
    return image


@pytest.fixture
def generator_file(workplace):
    """Made here with random weights: the published ones are not in this repository."""

    def make(channels=1, blocks=3, wrapper=None, **other):
        torch.manual_seed(0)
        network = Generator(channels, blocks, width=8).eval()
        paths.saved_models().mkdir(exist_ok=True)
        state = {"optimizer": {}, wrapper: network.state_dict()} if wrapper else network.state_dict()
        torch.save(state | other, lines.generator_file())
        return network

    return make


@pytest.mark.parametrize("extractor", ["xdog", "sobel"])
@pytest.mark.parametrize("size", [(96, 96), (192, 320), (32, 32)])
def test_lines_are_drawn_where_the_edges_are(extractor, size):
    drawn = lines.draw(scene(*size), extractor)
    assert drawn.shape == (1, 1, 64, 64)
    assert 0 <= drawn.min() and drawn.max() <= 1
    edge = torch.zeros(64, 64, dtype=torch.bool)
    edge[13:35, 13:35] = True
    edge[19:29, 19:29] = False  # inside the square, and outside of it, nothing is to be seen
    assert drawn[0, 0][edge].mean() > 10 * drawn[0, 0][~edge].mean()
    assert drawn.max() > 0.5


def test_xdog_is_its_equation():
    """Winnemoeller et al. 2012, with the blurs by another library and reflected borders."""
    from scipy.ndimage import gaussian_filter

    grey = np.random.default_rng(0).random((20, 20)).astype(np.float32)
    narrow, wide = (gaussian_filter(grey, s, mode="mirror", radius=int(np.ceil(3 * s))) for s in (0.8, 1.28))
    s = 11 * narrow - 10 * wide
    expected = 1 - np.where(s >= 0.3, 1, 1 + np.tanh(4 * (s - 0.3)))
    found = lines.xdog(torch.from_numpy(grey)[None, None], 0.8, 1.6, 10.0, 0.3, 4.0)
    np.testing.assert_allclose(found[0, 0].numpy(), expected, atol=2e-4)


@pytest.mark.parametrize("extractor", ["xdog", "sobel"])
def test_blank_images_have_blank_drawings_and_images_do_not_see_their_batch(extractor):
    blank = lines.draw(torch.full((2, 3, 40, 40), 0.6), extractor)
    assert blank.max() < 1e-3
    torch.manual_seed(0)
    images = torch.rand(5, 3, 40, 40)
    together = lines.draw(images, extractor)
    torch.testing.assert_close(together[3:4], lines.draw(images[3:4], extractor))


@pytest.mark.parametrize("extractor", ["xdog", "sobel"])
@pytest.mark.parametrize("kind", ["flip", "dihedral"])
def test_drawings_are_moved_as_their_images_are(extractor, kind):
    """The published fault: the image is cropped and flipped, its drawing is not."""
    torch.manual_seed(0)
    pixels = (torch.rand(16, 3, 8, 8) * 255).to(torch.uint8).repeat_interleave(8, 2).repeat_interleave(8, 3)
    drawn = lines.draw(pixels.float() / 255, extractor)
    moved, moved_lines = augment(pixels, kind, torch.Generator().manual_seed(1), drawn)
    assert not torch.equal(moved, pixels)
    torch.testing.assert_close(moved_lines, lines.draw(moved.float() / 255, extractor), atol=1e-3, rtol=0)


def test_a_crop_moves_the_drawing_to_the_same_place():
    images = (scene(64, 64) * 255).to(torch.uint8).expand(40, -1, -1, -1)
    drawn = lines.draw(images.float() / 255, "sobel")
    moved, moved_lines = augment(images, "crop_jitter", torch.Generator().manual_seed(1), drawn)
    anew = lines.draw(moved.float() / 255, "sobel")
    grid = torch.arange(64.0)

    def middle(x):
        mass = x[:, 0].sum(dim=(1, 2))
        return torch.stack([(x[:, 0].sum(2) * grid).sum(1) / mass, (x[:, 0].sum(1) * grid).sum(1) / mass], 1)

    assert (middle(moved_lines) - middle(anew)).abs().max() < 1  # pixel
    assert (middle(moved_lines) - middle(drawn)).abs().max() > 3  # they do move
    assert 0 <= moved_lines.min() and moved_lines.max() <= 1


def test_batches_bring_their_drawings(image_folder):
    images = load(image_folder({"a": 6, "b": 6}), 16)
    drawn = np.arange(12, dtype=np.uint8)[:, None, None].repeat(64, 1).repeat(64, 2)
    batches = Batches(images, np.array([7, 2, 5]), image_size=16, batch_size=2, lines=drawn)
    found = torch.cat([line for _, _, line in batches])
    assert found.shape == (3, 1, 64, 64)
    torch.testing.assert_close(found[:, 0, 0, 0] * 255, torch.tensor([7.0, 2.0, 5.0]))
    with pytest.raises(ValueError, match="3 line drawings for 12 images"):
        Batches(images, np.arange(3), image_size=16, lines=drawn[:3])


def test_precomputed_drawings_are_read_back_and_are_those_of_the_images(image_folder, monkeypatch):
    images = load(image_folder({"a": 6, "b": 6}), 16)
    drawn = lines.precomputed(images, "xdog", 48)
    seen = torch.cat([batch for batch, _ in Batches(images, np.arange(12), image_size=48)])
    expected = lines.draw(seen * 0.5 + 0.5)[:, 0]  # of the images as the network sees them, not as they lie on disk
    torch.testing.assert_close(torch.from_numpy(np.array(drawn)).float() / 255, expected, atol=0.003, rtol=0)
    monkeypatch.setattr(lines, "draw", lambda *_: pytest.fail("drawn again"))
    assert np.array_equal(lines.precomputed(images, "xdog", 48), drawn)


@pytest.mark.parametrize("invert", [True, False])
def test_a_folder_of_drawings_made_elsewhere_is_matched_by_name(image_folder, workplace, invert):
    root = image_folder({"a": 3, "b": 3})
    for index, file in enumerate(sorted(root.rglob("*.png"))):
        drawing = np.zeros((128, 128), dtype=np.uint8)
        drawing[:, 16 * index : 16 * index + 16] = 255
        out = workplace / "drawn" / file.relative_to(root).with_suffix(".jpg")
        out.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(255 - drawing if invert else drawing).save(out, quality=95)
    images = load(root, 16)
    drawn = lines.from_folder(workplace / "drawn", images)
    assert drawn.shape == (6, 64, 64)
    for index in range(6):
        assert drawn[index, :, 8 * index + 2 : 8 * index + 6].mean() > 240
        assert drawn[index].mean() < 60  # lines are high, whichever way they came
    next((workplace / "drawn" / "b").iterdir()).unlink()
    with pytest.raises(DatasetError, match=r"1 of 6 images of pictures have no line drawing, e.g. b/000.*b/000.png"):
        lines.from_folder(workplace / "drawn", images)
    with pytest.raises(DatasetError, match="no such folder of line drawings"):
        lines.from_folder(workplace / "nowhere", images)


@pytest.mark.parametrize(("low", "high"), [(-1, 1), (0, 1), (0, 255)])
def test_any_published_range_becomes_zero_to_one(low, high):
    drawn = torch.linspace(low, high, 64).view(1, 1, 8, 8)
    torch.testing.assert_close(lines.to_unit(drawn), torch.linspace(0, 1, 64).view(1, 1, 8, 8))
    torch.testing.assert_close(lines.to_unit(drawn, invert=True), torch.linspace(1, 0, 64).view(1, 1, 8, 8))
    assert lines.to_unit(drawn, threshold=0.5).unique().tolist() == [0, 1]
    assert lines.to_unit(drawn, threshold=0.75).mean() == pytest.approx(0.25)


@pytest.mark.parametrize(
    ("drawing", "message"),
    [
        (torch.zeros(2, 1, 32, 64), r"are \(2, 1, 32, 64\): expected \(2, 1, 64, 64\)"),
        (torch.zeros(2, 3, 64, 64), r"are \(2, 3, 64, 64\): expected"),
        (torch.zeros(1, 1, 64, 64), r"are \(1, 1, 64, 64\): expected \(2, 1, 64, 64\)"),
        (torch.full((2, 1, 64, 64), 255.0), "range from 255 to 255: expected values in .0, 1., high = line"),
        (torch.full((2, 1, 64, 64), float("nan")), "range from nan"),
        (torch.full((2, 1, 64, 64), -0.5), "to_unit brings"),
    ],
)
def test_a_drawing_that_is_none_is_named(drawing, message, tiny):
    with pytest.raises(ValueError, match=message):
        tiny(selector="line_guided")(torch.randn(2, 3, 32, 32), 0.5, lines=drawing)


@pytest.mark.parametrize("mode", ["16 bit", "transparent", "mask"])
def test_drawings_of_any_kind_of_file_are_read(image_folder, workplace, mode):
    images = load(image_folder({"a": 5, "b": 5}), 16)
    stroke = np.zeros((64, 64), dtype=bool)
    stroke[20:30] = True
    drawing = {
        "16 bit": lambda: Image.fromarray(np.where(stroke, 60000, 300).astype(np.uint16)),
        "transparent": lambda: Image.fromarray(np.dstack([np.zeros((64, 64, 3)), stroke * 255]).astype(np.uint8)),
        "mask": lambda: Image.fromarray(stroke),
    }[mode]()
    for name in images.names:
        (workplace / "drawn" / name).parent.mkdir(parents=True, exist_ok=True)
        drawing.save(workplace / "drawn" / name)
    drawn = lines.from_folder(workplace / "drawn", images)
    assert drawn[:, 20:30].min() > 225 and np.delete(drawn, np.s_[20:30], axis=1).max() < 10


def test_a_mask_is_a_drawing_already():
    stroke = torch.eye(8)[None, None]
    for mask in (stroke.bool(), stroke.byte(), stroke):
        assert torch.equal(lines.to_unit(mask), stroke)


def test_gradients_can_be_taken_after_a_prediction(tiny):
    """What is kept from call to call must not be of inference mode."""
    model, images = tiny(selector="line_guided:choice=top"), torch.rand(1, 3, 32, 32)
    with torch.inference_mode():
        model(images, 0.5)
    images = images.requires_grad_()
    model(images, 0.5).sum().backward()
    assert images.grad.isfinite().all() and images.grad.abs().sum() > 0


def test_wrong_calls_are_named():
    with pytest.raises(ValueError, match="unknown line extractor 'canny': expected one of xdog, sobel, informative"):
        lines.draw(torch.zeros(1, 3, 8, 8), "canny")
    with pytest.raises(ValueError, match=r"images are \(3, 8, 8\)"):
        lines.draw(torch.zeros(3, 8, 8))
    with pytest.raises(ValueError, match="range from -3 to 0"):
        lines.to_unit(torch.tensor([-3.0, 0.0]))


class PublishedGenerator(nn.Module):
    """The published generator, a second time and flat, from its description: key -> operation."""

    def __init__(self, state, blocks):
        super().__init__()
        self.state, self.blocks = state, blocks

    def forward(self, x):
        f, s = nn.functional, self.state

        def conv(x, key, pad=0, stride=1):
            x = f.pad(x, (pad,) * 4, mode="reflect") if pad else x
            return f.conv2d(x, s[f"{key}.weight"], s[f"{key}.bias"], stride=stride, padding=int(stride == 2))

        def up(x, key):
            return f.conv_transpose2d(x, s[f"{key}.weight"], s[f"{key}.bias"], stride=2, padding=1, output_padding=1)

        x = f.relu(f.instance_norm(conv(x, "model0.1", 3)))
        for key in ("model1.0", "model1.3"):
            x = f.relu(f.instance_norm(conv(x, key, stride=2)))
        for i in range(self.blocks):
            inner = f.relu(f.instance_norm(conv(x, f"model2.{i}.conv_block.1", 1)))
            x = x + f.instance_norm(conv(inner, f"model2.{i}.conv_block.5", 1))
        for key in ("model3.0", "model3.3"):
            x = f.relu(f.instance_norm(up(x, key)))
        return torch.sigmoid(conv(x, "model4.1", 3))


@pytest.mark.parametrize("wrapper", [None, "state_dict", "model", "netG", "net"])
@pytest.mark.parametrize(("channels", "blocks"), [(1, 3), (3, 2)])
@torch.no_grad()
def test_the_published_generator_loads_in_every_wrapping(generator_file, wrapper, channels, blocks):
    made = generator_file(channels, blocks, wrapper)
    network, x = read_generator(lines.generator_file()), torch.randn(2, channels, 32, 32)
    torch.testing.assert_close(network(x), made(x))
    torch.testing.assert_close(network(x), PublishedGenerator(made.state_dict(), blocks)(x), atol=1e-5, rtol=0)
    assert network(x).shape == (2, 1, 32, 32)
    drawn = lines.draw(torch.rand(2, 3, 96, 96), "informative")
    assert drawn.shape == (2, 1, 64, 64) and 0 <= drawn.min() and drawn.max() <= 1


def test_images_are_prepared_for_the_generator_as_published(generator_file):
    """Grey, Gaussian blur of radius 7, bicubic to 64 x 64, [-1, 1]; its drawings are dark on white."""
    from scipy.ndimage import gaussian_filter

    network = generator_file()
    image = torch.rand(1, 3, 96, 128, generator=torch.Generator().manual_seed(0))
    image[..., 30:60, 20:70] *= 0.2
    drawn = lines.draw(image, "informative")
    blurred = gaussian_filter(
        (image[0] * torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)).sum(0).numpy(), 7, mode="mirror"
    )
    small = np.asarray(Image.fromarray(blurred.astype(np.float32)).resize((64, 64), Image.Resampling.BICUBIC))
    with torch.no_grad():
        expected = 1 - network(torch.tensor(small)[None, None] * 2 - 1)
    assert drawn.std() > 0.001
    torch.testing.assert_close(drawn, expected, atol=0.05 * expected.std().item(), rtol=0)


def test_without_the_generator_its_place_and_another_extractor_are_named(workplace):
    with pytest.raises(CheckpointError, match=r"saved_models/netG_A_latest.pth.*is not there. Put .* there, or .*xdog"):
        lines.draw(torch.rand(1, 3, 32, 32), "informative")


def test_a_file_that_is_no_generator_is_named(generator_file):
    generator_file(surplus=torch.zeros(1))
    with pytest.raises(CheckpointError, match="(?s)not the generator.*surplus"):
        lines.draw(torch.rand(1, 3, 32, 32), "informative")
    torch.save({"conv1.weight": torch.zeros(1)}, lines.generator_file())
    with pytest.raises(CheckpointError, match="lacks model0.1.weight"):
        read_generator(lines.generator_file())
    lines.generator_file().write_bytes(b"torn")
    with pytest.raises(CheckpointError, match="not a readable .pth"):
        read_generator(lines.generator_file())
