import pytest
import timm
import torch
from safetensors.torch import save_file

from asel_lib import paths
from asel_lib.configs import ModelSettings
from asel_lib.errors import CheckpointError
from asel_lib.models import SelectiveViT
from asel_lib.training import start
from asel_lib.training.jobs import new_model
from asel_lib.training.start import described_start

TINY = dict(patch_size=8, embed_dim=48, depth=2, num_heads=3)
ARCHITECTURE = "vit_tiny_patch16_224"


@pytest.fixture
def offline(workplace, monkeypatch):
    """No weights in timm's cache, and no network."""

    def refused(*arguments, **options):
        raise OSError("no network")

    monkeypatch.setattr(start, "_cached", lambda architecture: None)
    monkeypatch.setattr(start, "create_model", refused)


def plain(classes=10, size=32, **changes):
    torch.manual_seed(0)
    return timm.create_model(ARCHITECTURE, num_classes=classes, img_size=size, **TINY | changes)


def put(model, name=f"{ARCHITECTURE}.safetensors"):
    file = paths.data() / "weights" / name
    file.parent.mkdir(exist_ok=True)
    weights = {key: value.contiguous() for key, value in model.state_dict().items()}
    save_file(weights, file) if file.suffix == ".safetensors" else torch.save(weights, file)
    return file


def settings(**changes):
    return ModelSettings(**dict(architecture=ARCHITECTURE, image_size=32, timm=TINY, start="imagenet") | changes)


@pytest.mark.parametrize("end", [".safetensors", ".pth"])
def test_weights_are_taken_from_the_data_folder_and_the_line_says_so(offline, capsys, end):
    pretrained = plain()
    put(pretrained, ARCHITECTURE + end)
    model = new_model(settings(), 10, 0, True)
    assert f"start: weights of data/weights/{ARCHITECTURE}{end}" in capsys.readouterr().out
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(model.eval()(images), pretrained.eval()(images), atol=1e-5, rtol=0)


def test_without_weights_training_does_not_start_from_random_ones(offline):
    with pytest.raises(CheckpointError, match=f"put them into .*weights, as {ARCHITECTURE}.safetensors, or set start"):
        new_model(settings(), 10, 0, True)
    assert described_start(settings(start="random")) == described_start(settings(), pretrained=False) == "random"
    assert new_model(settings(start="random"), 10, 0, True).head.out_features == 10


def test_a_file_that_the_user_names_goes_before_all_others(offline, tmp_path):
    put(plain())
    own = plain(3)
    own.norm.weight.data.fill_(3)
    file = put(own, "own.safetensors").rename(tmp_path / "own.safetensors")
    model, weights = new_model(settings(start=str(file)), 3, 0, True), described_start(settings(start=str(file)))
    assert (model.norm.weight == 3).all() and torch.equal(model.head.weight, own.head.weight)
    assert weights.startswith("own.safetensors ")
    own.norm.weight.data.fill_(4)
    put(own, "own.safetensors").replace(file)
    assert described_start(settings(start=str(file))) != weights
    file.unlink()
    with pytest.raises(CheckpointError, match=r"own.safetensors', which cannot be read"):
        described_start(settings(start=str(file)))


def test_another_number_of_classes_keeps_the_new_head_and_takes_the_rest(offline):
    pretrained = plain(10)
    put(pretrained)
    model = new_model(settings(), 4, 0, True)
    assert model.head.weight.shape == (4, 48)
    assert torch.equal(model.blocks[1].mlp.fc1.weight, pretrained.blocks[1].mlp.fc1.weight)


def test_a_start_without_a_head_or_with_a_selector_gives_the_rest(offline, capsys):
    pretrained = plain(0)
    put(pretrained)
    model = new_model(settings(), 4, 0, True)
    assert torch.equal(model.blocks[1].mlp.fc1.weight, pretrained.blocks[1].mlp.fc1.weight)
    assert "; head begin anew" in capsys.readouterr().out
    file = put(SelectiveViT(ARCHITECTURE, 4, "learned", img_size=32, **TINY), "own.safetensors")
    model = new_model(settings(start=str(file), selector="glance"), 4, 0, True)
    assert torch.equal(model.norm.weight, start.read_start(file)["norm.weight"])
    assert "anew" not in capsys.readouterr().out


def timm_folder(folder, **changes):
    from timm.models import save_for_hf

    model = plain(3, **changes)
    with torch.no_grad():
        model.norm.weight.fill_(3)
    prepared = {"mean": (0.1, 0.2, 0.3), "std": (0.2, 0.3, 0.4), "input_size": (3, 32, 32)}
    save_for_hf(model, folder, data_config=prepared, safe_serialization=True)
    return model


def test_a_model_by_its_place_is_a_start_with_its_normalisation(offline, tmp_path, capsys):
    theirs = timm_folder(tmp_path / "theirs")
    place = f"local-dir:{tmp_path / 'theirs'}"
    model, weights = new_model(settings(start=place, image_size=48), 3, 0, True), described_start(settings(start=place))
    assert (model.norm.weight == 3).all() and torch.equal(model.head.weight, theirs.head.weight)
    assert model.pretrained_cfg["mean"] == (0.1, 0.2, 0.3) == model.patch_drop.mean and model.pos_embed.shape[1] == 37
    assert weights.startswith("local-dir:theirs ") and f"start: weights of {place}" in capsys.readouterr().out
    assert described_start(settings(start=place, image_size=48)) == weights
    theirs.norm.weight.data.fill_(4)
    timm.models.save_for_hf(theirs, tmp_path / "theirs", safe_serialization=True)
    assert described_start(settings(start=place)) != weights


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_heads": 4}, r"its network is another \(num_heads=\[4, 4\]; the profile's: num_heads=\[3"),
        ({"act_layer": "relu"}, "its weights fit, but its network is another .blocks"),
        ({"depth": 3}, r"blocks.2.attn.proj.bias is \(48,\), this model has missing"),
    ],
)
def test_a_model_that_is_built_otherwise_is_no_start(offline, tmp_path, change, message):
    timm_folder(tmp_path / "theirs", **change)
    with pytest.raises(CheckpointError, match=message):
        new_model(settings(start=f"local-dir:{tmp_path / 'theirs'}"), 3, 0, True)


def test_a_place_without_a_model_is_named(offline, tmp_path):
    with pytest.raises(
        CheckpointError, match="local-dir:.*nowhere: timm makes no model of it .FileNotFound.*config.json"
    ):
        new_model(settings(start=f"local-dir:{tmp_path / 'nowhere'}"), 3, 0, True)


def test_positions_are_resampled_for_another_grid_as_timm_does(offline):
    pretrained = plain()
    put(pretrained)
    model = new_model(settings(image_size=48), 10, 0, True)
    wanted = timm.layers.resample_abs_pos_embed(pretrained.pos_embed.data, [6, 6], num_prefix_tokens=1)
    assert torch.equal(model.pos_embed.data, wanted)


def test_embeddings_that_are_reset_are_new_and_all_else_is_pretrained(offline, capsys):
    pretrained = plain()
    put(pretrained)
    model, untouched = new_model(settings(reset_embeddings=True), 10, 0, True), new_model(settings(), 10, 0, False)
    reset = {name for name in pretrained.state_dict() if name.startswith(start.EMBEDDINGS)}
    assert reset == {"pos_embed", "patch_embed.proj.weight", "patch_embed.proj.bias"}
    for name, value in pretrained.state_dict().items():
        wanted = untouched.state_dict()[name] if name in reset else value
        assert torch.equal(model.state_dict()[name], wanted), name
    assert "patch_embed, pos_embed begin anew" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.pop("blocks.1.norm1.bias"), "blocks.1.norm1.bias is missing, this model has \\(48,\\)"),
        (lambda w: w.update(strange=torch.zeros(2)), "strange is \\(2,\\), this model has missing"),
        (lambda w: w.update({"cls_token": torch.zeros(1, 1, 64)}), "cls_token is \\(1, 1, 64\\)"),
        (lambda w: w.update(pos_embed=torch.zeros(1, 15, 48)), "expected those of a square grid"),
    ],
)
def test_weights_of_another_architecture_are_refused_by_name(workplace, change, message):
    weights = plain().state_dict()
    change(weights)
    with pytest.raises(CheckpointError, match=message):
        start.fill_from(SelectiveViT(ARCHITECTURE, 10, "learned", img_size=32, **TINY), weights, "a file")


def test_a_file_with_code_is_not_run(workplace, tmp_path):
    class Evil:
        def __reduce__(self):
            return (pytest.fail, ("code was run",))

    torch.save({"norm.weight": Evil()}, tmp_path / "weights.pth")
    with pytest.raises(CheckpointError, match="not a readable .pth of tensors"):
        start.read_start(tmp_path / "weights.pth")


@pytest.mark.data
def test_the_imagenet_weights_classify_photos(real_data, monkeypatch):
    """The head's own answers on photos of ten ImageNet classes, among the ten."""
    from PIL import Image

    from asel_lib.data.batches import transform

    folder, weights = real_data("imagenette"), real_data("weights") / f"{ARCHITECTURE}.safetensors"
    model = SelectiveViT(ARCHITECTURE, 1000, "random")
    start.fill_from(model, start.read_start(weights), weights)
    # ImageNet's numbers of Imagenette's classes, in the order of its folders' names (WordNet ids).
    numbers = torch.tensor([0, 217, 482, 491, 497, 566, 569, 571, 574, 701])
    prepare, right, seen = transform(224, (0.5,) * 3, (0.5,) * 3), 0, 0
    for label, place in enumerate(sorted(path for path in (folder / "val").iterdir() if path.is_dir())):
        files = sorted(place.iterdir())[:4]
        images = torch.stack([prepare(Image.open(file).convert("RGB")) for file in files])
        with torch.inference_mode():
            right += int((model.eval()(images)[:, numbers].argmax(dim=1) == label).sum())
        seen += len(files)
    assert seen == 40 and right >= 36
