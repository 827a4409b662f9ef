"""The generator network of "informative drawings", whose published weights the line-guided system uses.

Module names are those of the published state dict: model0.1, model1.0, model2.0.conv_block.1, model3.0, model4.1 ...
"""

from pathlib import Path

from torch import Tensor, nn

from asel_lib.errors import CheckpointError
from asel_lib.files import read_tensors

WRAPPERS = ("state_dict", "model", "netG", "net")


class _Residual(nn.Module):
    """x + conv(relu(conv(x))), each convolution 3 x 3 with reflected borders and instance norm."""

    def __init__(self, width: int):
        super().__init__()
        self.conv_block = nn.Sequential(
            nn.ReflectionPad2d(1),
            nn.Conv2d(width, width, 3),
            nn.InstanceNorm2d(width),
            nn.ReLU(),
            nn.ReflectionPad2d(1),
            nn.Conv2d(width, width, 3),
            nn.InstanceNorm2d(width),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv_block(x)


class Generator(nn.Module):
    """(B, channels, h, w) in [-1, 1] -> (B, 1, h, w) in (0, 1), dark lines on white; h and w multiples of 4.

    Convolution 7 -> 64, two of stride 2 -> 256, `blocks` residual blocks, two transposed, convolution 7 -> 1, sigmoid;
    instance norm without parameters.
    """

    def __init__(self, channels: int = 1, blocks: int = 3, width: int = 64):
        super().__init__()
        self.channels = channels

        def down(width):
            return [nn.Conv2d(width, 2 * width, 3, stride=2, padding=1), nn.InstanceNorm2d(2 * width), nn.ReLU()]

        def up(width):
            transposed = nn.ConvTranspose2d(width, width // 2, 3, stride=2, padding=1, output_padding=1)
            return [transposed, nn.InstanceNorm2d(width // 2), nn.ReLU()]

        self.model0 = nn.Sequential(
            nn.ReflectionPad2d(3), nn.Conv2d(channels, width, 7), nn.InstanceNorm2d(width), nn.ReLU()
        )
        self.model1 = nn.Sequential(*down(width), *down(2 * width))
        self.model2 = nn.Sequential(*(_Residual(4 * width) for _ in range(blocks)))
        self.model3 = nn.Sequential(*up(4 * width), *up(2 * width))
        self.model4 = nn.Sequential(nn.ReflectionPad2d(3), nn.Conv2d(width, 1, 7), nn.Sigmoid())

    def forward(self, images: Tensor) -> Tensor:
        return self.model4(self.model3(self.model2(self.model1(self.model0(images)))))


def read_generator(file: str | Path) -> Generator:
    """The generator with the weights of a .pth file, plain or wrapped in WRAPPERS, in eval mode, without gradients.

    Input channels, residual blocks and width are read off the tensors; no code in the file is run. CheckpointError
    where it holds something else.
    """
    state = read_tensors(file, WRAPPERS)
    state = {key.removeprefix("module."): value for key, value in state.items()}
    first = state.get("model0.1.weight")
    if first is None or first.ndim != 4:
        raise CheckpointError(f"{file}: not the generator of informative drawings: it lacks model0.1.weight")
    blocks = len({key.split(".")[1] for key in state if key.startswith("model2.")})
    try:
        # Of the widest layer's size at most: what is read off the file's tensors is as large as they are.
        if state.get("model1.3.weight", first).numel() < 8 * first.shape[0] ** 2:
            raise RuntimeError("model1.3.weight is missing or too small")
        network = Generator(first.shape[1], blocks, first.shape[0])
        network.load_state_dict(state)
    except (RuntimeError, ValueError) as error:
        raise CheckpointError(f"{file}: not the generator of informative drawings: {error}") from error
    return network.eval().requires_grad_(False)
