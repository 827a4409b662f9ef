"""One image, one model, a slider for the keep ratio: widgets where someone can drag it, a sheet everywhere else."""

import base64
import io
import os
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

from matplotlib.figure import Figure
from PIL import Image

from asel_lib import checkpoints as stored
from asel_lib.data import samples
from asel_lib.data.read_image import read_image
from asel_lib.errors import AselError, DatasetError
from asel_lib.selection import keep_count
from asel_lib.viewer.look import Seen, look, policies, sheet
from asel_lib.viewer.markup import sentence
from asel_lib.viewer.panel import Panel, line

BESIDE = (1.0, 0.5, 0.1)  # keep ratios that the sheet shows beside the present one
DPI = 144  # of the sheet, shown at half its pixels: crisp on fine screens


class Explorer:
    """Choose image, checkpoint and selector, drag the keep ratio: kept patches, scores, answer and cost follow.

        Explorer("synthetic_anytime")                      # as the last line of a notebook's cell
        Explorer(model, "my/images", keep_ratio=0.3, checkpoints=asel_lib.checkpoints.available())

    model: as from `asel_lib.load`, or a name or path for it. images: a folder, a list of PIL images, or "" for a few of
    each checkpoint's own kind. checkpoints: names of others to choose from.
    ValueError for a keep ratio outside (0, 1], or a model without classes and transform.

    In Jupyter and voila it is widgets; where nobody can drag (papermill, nbconvert, Sphinx), and on pages without a
    kernel (GitHub), a picture of the same at a few keep ratios.
    """

    def __init__(
        self,
        model,
        images: str | Path | Sequence[Image.Image] = "",
        *,
        keep_ratio: float = 0.2,
        checkpoints: Sequence[str] = (),
    ):
        keep_count(1, keep_ratio)
        model = stored.load(model) if isinstance(model, str | Path) else model
        if model.transform is None or model.classes is None:
            raise ValueError("an explorer needs the model's transform and classes: load it with asel_lib.load(name)")
        self.name = (model.record or {}).get("name", "this model")
        self._models, self._policies = {self.name: model}, {}
        self.checkpoints = list(dict.fromkeys([self.name, *checkpoints]))
        self.keep_ratio, self.policy = float(keep_ratio), self.policies[0][1]
        self._own_kind = isinstance(images, str) and not images
        listed = isinstance(images, str | Path)
        self.images = _numbered(samples.some_images(model.record, images) if listed else images)
        self.uploads: dict[str, Image.Image] = {}
        self._chosen = next(iter(self.images))
        self._prepared: dict = {}

    @property
    def model(self):
        return self._models[self.name]

    @property
    def policies(self) -> list[tuple[str, str | None]]:
        """(what to call it, policy) of the selectors that suit the model, its own first."""
        if self.name not in self._policies:
            self._policies[self.name] = policies(self.model)
        return self._policies[self.name]

    @property
    def choices(self) -> list[str]:
        """What the images are called, uploaded ones last."""
        return [*self.images, *self.uploads]

    @property
    def image(self) -> str:
        """The name of the image that is looked at."""
        return self._chosen

    @image.setter
    def image(self, name: str) -> None:
        """Show one of the images.

        Args:
            name: of the image.
        """
        if name not in self.choices:
            raise ValueError(f"no image {name!r}: expected one of {', '.join(self.choices)}")
        self._chosen = name

    def view(self) -> Seen:
        """What is to be seen at the present setting."""
        return look(self.model, self._tensor(), self.keep_ratio, self.policy)

    def sheet(self) -> Figure:
        """The present setting beside a few other keep ratios, as a picture."""
        return sheet(self.model, self._tensor(), sorted({*BESIDE, self.keep_ratio}, reverse=True), self.policy)

    def use(self, name: str) -> str:
        """Go on with another checkpoint, with its own kind of images where those were shown before.

        Args:
            name: of the checkpoint.

        Returns:
            "" or, where the images are not there, one line that says so.

        Raises:
            CheckpointError: where there is no such checkpoint; nothing changes then.
        """
        if name not in self._models:
            self._models[name] = stored.load(name)
        self.name = name
        offered = [policy for _, policy in self.policies]
        self.policy = self.policy if self.policy in offered else offered[0]
        if not self._own_kind:
            return ""
        try:
            found = samples.some_images(self.model.record)
        except (AselError, OSError) as error:
            return f"{name}: the images that it was trained on are not shown. {line(error)}"
        self.images = _numbered(found)
        self._prepared.clear()
        self._chosen = self._chosen if self._chosen in self.choices else self.choices[0]
        return ""

    def upload(self, name: str, content: bytes) -> None:
        """Look at an image file.

        Args:
            name: of the file.
            content: its bytes.

        Raises:
            DatasetError: where they are not an image.
        """
        try:
            image = Image.fromarray(read_image(bytes(content)))
        except DatasetError as error:
            raise DatasetError(f"{name} is not a readable image: choose a JPEG, PNG, TIFF or WebP file") from error
        self.uploads[name] = image
        self._prepared.pop((self.name, name), None)
        self._chosen = name

    @cached_property
    def panel(self) -> Panel:
        return Panel(self)

    def _tensor(self):
        key = self.name, self._chosen
        if key not in self._prepared:  # shrinking a photograph takes longer than classifying it
            self._prepared[key] = self.model.transform((self.images | self.uploads)[self._chosen])
        return self._prepared[key]

    def _repr_mimebundle_(self, include=None, exclude=None) -> tuple[dict, dict]:
        """text/plain, a PNG, and the widgets where someone can use them."""
        figure = self.sheet()
        file = io.BytesIO()
        figure.savefig(file, format="png", dpi=DPI)
        width, height = (int(inches * DPI / 2) for inches in figure.get_size_inches())
        data = {
            "text/plain": sentence(self.name, self._chosen, self.keep_ratio, self.view()),
            "image/png": base64.b64encode(file.getvalue()).decode(),
        }
        if _watched():
            data["application/vnd.jupyter.widget-view+json"] = {
                "version_major": 2,
                "version_minor": 0,
                "model_id": self.panel.box.model_id,
            }
        return data, {"image/png": {"width": width, "height": height}}


def _watched() -> bool:
    """Whether someone may drag a slider: not where a kernel runs for a program (papermill, nbconvert), which says with
    each cell that it cannot answer questions; but voila, which says so too, has a reader."""
    try:
        from IPython import get_ipython
    except ImportError:
        return True
    kernel = getattr(get_ipython(), "kernel", None)
    if kernel is None or "VOILA_SERVER_URL" in os.environ or "VOILA_KERNEL_ID" in os.environ:
        return True
    return bool(kernel.get_parent("shell").get("content", {}).get("allow_stdin", True))


def _numbered(images: Sequence[Image.Image]) -> dict[str, Image.Image]:
    if not images:
        raise ValueError("no images: expected a list of PIL images, a folder, or '' for some of the checkpoint's kind")
    return {f"image {number}": image for number, image in enumerate(images, 1)}
