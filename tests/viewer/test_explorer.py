import base64
import html
import importlib.util
import io
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import papermill
import pytest
import torch
from PIL import Image

from asel_lib.data.batches import transform
from asel_lib.errors import CheckpointError, DatasetError
from asel_lib.viewer import explorer as explorers
from asel_lib.viewer.explorer import Explorer
from asel_lib.viewer.look import look, policies

REPOSITORY = Path(__file__).parents[2]
NOTEBOOK = REPOSITORY / "notebooks" / "00_quickstart.ipynb"
WIDGET = "application/vnd.jupyter.widget-view+json"
CHECKPOINT = "synthetic_anytime"


def picture(seed=0, size=40):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 255, (size, size, 3), dtype=np.uint8))


def png(image):
    file = io.BytesIO()
    image.save(file, "png")
    return file.getvalue()


def uploaded(name, content):
    about = {"name": name, "type": "image/png", "size": len(content), "last_modified": datetime.now(UTC)}
    return (about | {"content": memoryview(content)},)


@pytest.fixture
def model(tiny):
    """A `tiny` model with what `asel_lib.load` adds."""
    made = tiny(selector="glance")
    made.classes, made.transform = ("a", "b", "c", "d"), transform(32, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    made.patch_drop.mean = made.patch_drop.std = (0.5, 0.5, 0.5)
    torch.nn.init.normal_(made.selector.network[-1].weight, generator=torch.Generator().manual_seed(0))
    return made


@pytest.fixture
def panel(model):
    return Explorer(model, [picture(0), picture(1)], keep_ratio=0.5).panel


@pytest.fixture
def shipped(workplace):
    """A checkout with one shipped checkpoint."""
    (workplace / "saved_models").mkdir()
    for suffix in (".json", ".safetensors"):
        shutil.copy(REPOSITORY / "saved_models" / f"{CHECKPOINT}{suffix}", workplace / "saved_models")
    return workplace


def test_dropped_patches_are_grey_and_kept_ones_as_they_are(model):
    whole, some = (look(model, picture(), ratio) for ratio in (1.0, 0.3))
    assert (whole.kept, some.kept, some.patches) == (16, 4, 16)
    kept = model.select(model.transform(picture())[None], 0.3)[0].tolist()
    before, after = np.asarray(whole.shown), np.asarray(some.shown)
    side = before.shape[0] // 4
    for place in range(16):
        tile = np.s_[place // 4 * side : (place // 4 + 1) * side, place % 4 * side : (place % 4 + 1) * side]
        assert (before[tile] == after[tile]).all() == (place in kept)
        assert (np.ptp(after[tile], axis=2) == 0).all() == (place not in kept)


def test_heat_is_the_brighter_the_higher_a_patch_is_weighted(model):
    view, weights = look(model, picture(), 1.0), model.log_weights(model.transform(picture())[None])[0]
    light = np.asarray(view.heat.convert("L"))[48::96, 48::96].ravel()
    assert np.corrcoef(light, weights.detach().numpy())[0, 1] > 0.9
    assert light.max() > 200 and light.min() < 40  # from one end of the colours to the other
    assert view.heat_of == "log-weights of glance"


@pytest.mark.parametrize("policy", ["random", "tome"])
def test_where_a_selector_has_no_scores_a_line_says_so(model, policy):
    view = look(model, picture(), 0.5, policy)
    assert view.heat is None
    assert policy in view.heat_of and "no scores" in view.heat_of


def test_the_answer_is_that_of_predict_best_first(model):
    view, (answer,) = look(model, picture(), 0.5), model.predict([picture()], keep_ratio=0.5)
    names, shares = zip(*view.top, strict=True)
    assert len(names) == 3 and names[0] == answer.label
    assert shares[0] == pytest.approx(answer.probability, abs=1e-5)
    assert list(shares) == sorted(shares, reverse=True) and sum(shares) <= 1


def test_fewer_patches_cost_fewer_gmacs(model):
    views = [look(model, picture(), ratio) for ratio in (1.0, 0.5, 0.1)]
    assert views[0].gmacs > views[1].gmacs > views[2].gmacs > 0
    assert views[0].share == 1 and views[1].share == pytest.approx(views[1].gmacs / views[0].gmacs)
    assert all(view.ms > 0 for view in views)


@pytest.mark.parametrize("ratio", [0, 1.5, -0.1])
def test_a_keep_ratio_out_of_range_is_named(model, ratio):
    with pytest.raises(ValueError, match=f"keep_ratio is {ratio}"):
        look(model, picture(), ratio)
    with pytest.raises(ValueError, match=f"keep_ratio is {ratio}"):
        Explorer(model, [picture()], keep_ratio=ratio)


@pytest.mark.parametrize("own", ["learned", "random", "line_guided:lines=given", "evit"])
def test_policies_offered_suit_the_model_and_its_own_comes_first(tiny, own):
    made = tiny(selector=own)
    offered = [policy for _, policy in policies(made)]
    assert {"central", "edge_energy", "tome", "line_guided:lines=xdog,choice=top"} <= set(offered)
    assert not {"learned", "glance", "agent", "dynamicvit", own} & set(offered)  # trained ones; its own is None
    assert (offered[0] is None) == ("given" not in own)  # drawings that nobody brings
    without_class_token = tiny(class_token=False, global_pool="avg", selector="central")
    assert "evit" not in [policy for _, policy in policies(without_class_token)]


def test_the_slider_changes_the_pictures_and_the_numbers(panel):
    before = panel.kept.value, panel.heat.value, panel.answer.value
    panel.ratio.value = 0.25
    assert all(a != b for a, b in zip(before, (panel.kept.value, panel.heat.value, panel.answer.value), strict=True))
    assert "4 of 16 patches kept" in panel.kept.value and 'alt="image 1: 4 of 16' in panel.kept.value
    assert panel.explorer.keep_ratio == 0.25


def test_another_image_and_another_selector_are_shown(panel):
    first = panel.kept.value
    panel.image.value = "image 2"
    second = panel.kept.value
    assert second != first
    for label, policy in panel.selector.options:
        panel.selector.value = policy
        assert panel.message.value == "", label
    assert panel.explorer.policy == "tome" and "no scores" in panel.heat.value
    panel.selector.value, panel.image.value = "", "image 1"
    assert panel.explorer.policy is None and panel.kept.value == first


def test_an_uploaded_image_is_looked_at_and_a_bad_one_gives_one_line(panel):
    shown = panel.kept.value
    panel.upload.value = uploaded("<notes>.txt", b"no image")
    assert "&lt;notes&gt;.txt is not a readable image: choose" in panel.message.value
    assert panel.kept.value == shown and panel.image.value == "image 1"
    panel.upload.value = uploaded("mine.png", png(picture(2)))
    assert panel.message.value == ""
    assert panel.image.value == "mine.png" and panel.image.options == ("image 1", "image 2", "mine.png")
    assert panel.kept.value != shown
    with pytest.raises(DatasetError, match="b.png is not a readable image"):
        panel.explorer.upload("b.png", b"")


def test_another_checkpoint_brings_its_own_images_but_not_in_place_of_yours(model, shipped):
    yours = Explorer(model, [picture()], checkpoints=[CHECKPOINT])
    yours.panel.checkpoint.value = CHECKPOINT
    assert yours.choices == ["image 1"] and "12 of 64" in yours.panel.kept.value
    kind = Explorer(CHECKPOINT, checkpoints=["gone"])
    assert len(kind.choices) == 8
    kind.panel.checkpoint.value = "gone"
    assert "no checkpoint 'gone'" in html.unescape(kind.panel.message.value)
    assert kind.name == kind.panel.checkpoint.value == CHECKPOINT
    with pytest.raises(CheckpointError):
        kind.use("gone")


def test_a_checkpoint_without_its_images_keeps_those_that_are_there(shipped, monkeypatch):
    explorer = Explorer(CHECKPOINT, checkpoints=["away"])
    away = explorers.stored.load(CHECKPOINT)
    away.record = away.record | {"name": "away", "dataset": "rsscn7", "source": "rsscn7"}
    monkeypatch.setattr(explorers.stored, "load", lambda name: away)
    explorer.panel.checkpoint.value = "away"
    assert "away: the images that it was trained on are not shown. rsscn7" in explorer.panel.message.value
    assert explorer.name == "away" and len(explorer.choices) == 8


def test_it_is_widgets_and_for_pages_without_a_kernel_a_picture(model):
    data, about = Explorer(model, [picture()], keep_ratio=0.3)._repr_mimebundle_()
    assert data["text/plain"].startswith("this model, image 1, keep ratio 0.3: ")
    sheet = Image.open(io.BytesIO(base64.b64decode(data["image/png"])))
    assert about["image/png"]["width"] == pytest.approx(sheet.width / 2, abs=1)
    assert data[WIDGET]["model_id"]


@pytest.mark.slow
def test_the_executed_notebook_holds_the_sheet_and_no_widget(shipped):
    done = papermill.execute_notebook(NOTEBOOK, shipped / "out.ipynb", progress_bar=False, kernel_name="python3")
    (output,) = done.cells[-1].outputs
    assert output.data.keys() == {"image/png", "text/plain"}
    assert f"{CHECKPOINT}, image 1, keep ratio 0.2: " in output.data["text/plain"]
    assert "widgets" not in done.metadata


@pytest.fixture
def page_of_voila(shipped, browser):
    """The quickstart as voila serves it, opened in a browser, with a list of what went wrong on it."""
    if importlib.util.find_spec("voila") is None:
        pytest.skip("voila is not installed: pip install -e '.[serve]'")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # The user's own Jupyter set-up stays out of it.
    own = {f"JUPYTER_{kind}_DIR": str(shipped / kind) for kind in ("CONFIG", "DATA", "RUNTIME")}
    env = os.environ | own | {"IPYTHONDIR": str(shipped / "ipython"), "JUPYTER_PREFER_ENV_PATH": "1"}
    command = [sys.executable, "-m", "voila", str(NOTEBOOK), "--no-browser", "--port", str(port)]
    with (shipped / "voila.log").open("w") as log:
        server = subprocess.Popen(command, env=env, stdout=log, stderr=subprocess.STDOUT)
    page = browser.new_page()
    wrong = []
    address = f"http://127.0.0.1:{port}/"
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("response", lambda r: wrong.append(f"{r.status} {r.url}") if r.status >= 400 and here(r.url) else None)
    page.on("console", lambda m: wrong.append(m.text) if m.type == "error" and here(m.location["url"]) else None)

    def here(url):  # what voila's template fetches from elsewhere (icons, formulas) may be out of reach
        return url.startswith((address, "blob:")) and "favicon" not in url

    try:
        wait_for(address + "voila/static/favicon.ico", server, shipped / "voila.log")
        page.goto(address, timeout=120_000)
        yield page, wrong
    finally:
        page.close()
        server.terminate()
        server.wait(timeout=30)


def wait_for(address, server, log, seconds=60):
    for _ in range(5 * seconds):
        assert server.poll() is None, log.read_text()
        try:
            urllib.request.urlopen(address, timeout=5).close()
            return
        except urllib.error.HTTPError:
            return  # it answers
        except OSError:
            time.sleep(0.2)
    raise AssertionError(f"voila did not answer in {seconds} s: {log.read_text()}")


@pytest.mark.slow
def test_in_a_browser_the_slider_moves_and_the_picture_changes(page_of_voila):
    page, wrong = page_of_voila
    page.wait_for_selector(".asel-fig img", timeout=120_000)
    page.get_by_role("slider").first.focus()
    seen = page.locator(".asel-fig img").first, page.locator(".asel-gmacs"), page.locator(".widget-readout").first
    what = "[...document.querySelectorAll('.asel-fig img, .asel-gmacs')].map(e => e.src ?? e.innerText)"
    for kept, readout in ((16, "0.25"), (19, "0.30"), (22, "0.35")):
        before = page.evaluate(what)
        page.keyboard.press("ArrowRight")
        page.wait_for_function(f"before => {what}.every((now, i) => now !== before[i])", arg=before, timeout=10_000)
        assert seen[0].get_attribute("alt") == f"image 1: {kept} of 64 patches kept, the others greyed"
        assert float(seen[1].inner_text()) > float(before[-1])
        assert seen[2].inner_text() == readout
    page.set_viewport_size({"width": 390, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "it must fit a phone"
    assert wrong == []
