"""The widgets of an explorer: choosers and a slider above the pictures, the answer and what it costs."""

import ipywidgets as widgets

from asel_lib.errors import AselError, DatasetError
from asel_lib.viewer import markup


class Panel:
    """The widgets of an explorer. They only pass on what is chosen, and show what `explorer.view()` says."""

    def __init__(self, explorer):
        self.explorer, self._quiet = explorer, False
        layout = widgets.Layout(width="auto", flex="1 1 17em", min_width="0", max_width="100%")
        wide = {"layout": layout, "style": {"description_width": "6em"}}
        self.checkpoint = widgets.Dropdown(
            description="checkpoint", options=explorer.checkpoints, value=explorer.name, **wide
        )
        self.image = widgets.Dropdown(description="image", options=explorer.choices, value=explorer.image, **wide)
        self.selector = widgets.Dropdown(
            description="selector", options=self._policies(), value=explorer.policy or "", **wide
        )
        self.upload = widgets.FileUpload(
            description="your image", accept="image/*", tooltip="an image file of up to 10 MB"
        )
        self.ratio = widgets.FloatSlider(
            description="keep ratio",
            value=explorer.keep_ratio,
            min=min(0.05, explorer.keep_ratio),
            max=1,
            step=0.05,
            continuous_update=True,
            readout_format=".2f",
            layout=widgets.Layout(width="auto"),
            style={"description_width": "6em"},
        )
        side = widgets.Layout(flex="1 1 15em", max_width="384px", min_width="0")
        self.kept, self.heat, self.answer = (widgets.HTML(layout=side) for _ in range(3))
        self.heat.add_class("asel-heat")
        self.message = widgets.HTML()
        self.box = self._arranged()
        for chooser, act in (
            (self.checkpoint, self._use),
            (self.upload, self._upload),
            *((chooser, self._choose) for chooser in (self.image, self.selector, self.ratio)),
        ):
            chooser.observe(act, "value")
        self._show()

    def _arranged(self) -> widgets.Widget:
        """Side by side where there is room, below each other on a narrow screen."""
        row = {"display": "flex", "flex_flow": "row wrap", "overflow": "visible"}
        choosers = [self.checkpoint, self.selector, self.image, self.upload]
        choosers = widgets.Box(choosers, layout=widgets.Layout(**row, align_items="center"))
        seen = widgets.Box([self.kept, self.heat, self.answer], layout=widgets.Layout(**row, grid_gap="0 1.2em"))
        return widgets.VBox(
            [widgets.HTML(markup.style()), choosers, self.ratio, self.message, seen],
            layout=widgets.Layout(max_width="1200px", overflow="visible"),
        )

    def _choose(self, _) -> None:
        if not self._quiet:
            self.explorer.image, self.explorer.policy = self.image.value, self.selector.value or None
            self.explorer.keep_ratio = round(self.ratio.value, 4)  # a browser sends 0.15000000000000002
            self._say("")
            self._show()

    def _use(self, change) -> None:
        if self._quiet:
            return
        self._say(f"loading {change['new']} …")
        try:
            said = self.explorer.use(change["new"])
        except (AselError, ValueError, OSError) as error:
            said = line(error)
        self._offer()
        self._say(said)
        self._show()

    def _upload(self, _) -> None:
        files, said = self.upload.value, ""
        if not files:
            return
        try:
            self.explorer.upload(files[0]["name"], files[0]["content"])
        except DatasetError as error:
            said = line(error)
        self.upload.value = ()  # so that the same file can be chosen again
        self._offer()
        self._say(said)
        self._show()

    def _offer(self) -> None:
        """Set the choosers to what the explorer has, without acting on it."""
        self._quiet = True
        try:
            self.checkpoint.value = self.explorer.name
            self.image.options, self.image.value = self.explorer.choices, self.explorer.image
            self.selector.options = self._policies()
            self.selector.value = self.explorer.policy or ""
        finally:
            self._quiet = False

    def _policies(self) -> list[tuple[str, str]]:
        """For a Dropdown, to which None is no choice."""
        return [(label, policy or "") for label, policy in self.explorer.policies]

    def _show(self) -> None:
        try:
            view = self.explorer.view()
        except (AselError, ValueError) as error:
            self._say(line(error))
            return
        self.kept.value = markup.kept(view, self.explorer.image)
        self.heat.value = markup.heat(view)
        self.answer.value = markup.answer(view)

    def _say(self, text: str) -> None:
        self.message.value = markup.message(text)


def line(error: Exception) -> str:
    """An error's message on one line."""
    return " ".join(str(error).split()) or type(error).__name__
