import pytest
import torch

from asel_lib.errors import TrainingError
from asel_lib.files import replace_file
from asel_lib.training.state import read_state, write_state


def kept(path, state):
    replace_file(path, lambda file: write_state(file, state))
    return read_state(path)


def test_a_state_is_read_as_it_was_written(tmp_path):
    shared = torch.arange(6.0)
    state = {
        "model": {"a": shared, "b": shared[:3], "half": torch.ones(2, dtype=torch.bfloat16), "t": torch.eye(3)[:2].T},
        "optimizer": {"state": {0: {"step": torch.tensor(3.0)}, 7: {}}, "param_groups": [{"betas": (0.9, 0.999)}]},
        "history": [{"loss": 0.1 + 0.2, "reward": float("nan"), "tensor": "a word", "best": None}],
        "none": {},
    }
    found = kept(tmp_path / "state", state)
    assert found["history"][0]["loss"] == 0.1 + 0.2 and found["history"][0]["reward"] != found["history"][0]["reward"]
    assert found["history"][0]["tensor"] == "a word" and found["none"] == {}
    assert list(found["optimizer"]["state"]) == [0, 7]
    assert found["optimizer"]["param_groups"][0]["betas"] == [0.9, 0.999]
    for name, value in state["model"].items():
        assert found["model"][name].dtype == value.dtype and torch.equal(found["model"][name], value)


def test_an_optimiser_goes_on_from_a_state_as_if_it_had_not_stopped(tmp_path):
    def step(weight, optimizer):
        (weight.sin() * 3).sum().backward()
        optimizer.step()
        optimizer.zero_grad()

    whole, resumed = (torch.nn.Parameter(torch.arange(4.0)) for _ in range(2))
    first, second = (torch.optim.AdamW([weight], lr=0.1, fused=True) for weight in (whole, resumed))
    step(whole, first)
    state = kept(tmp_path / "state", {"weight": whole, "optimizer": first.state_dict()})
    resumed.data.copy_(state["weight"])
    second.load_state_dict(state["optimizer"])
    for weight, optimizer in ((whole, first), (resumed, second)):
        step(weight, optimizer)
    assert torch.equal(whole, resumed)


@pytest.mark.parametrize("content", [b"", b"junk", b"\x02\0\0\0\0\0\0\0{}", b"\xff" * 100, b"\x80\x04c"])
def test_a_file_that_is_no_state_is_named(tmp_path, content):
    (tmp_path / "state").write_bytes(content)
    with pytest.raises(TrainingError, match="state: not a readable state"):
        read_state(tmp_path / "state")


def test_what_is_no_plain_value_is_not_written(tmp_path):
    with pytest.raises(TypeError):
        kept(tmp_path / "state", {"model": object()})
    assert list(tmp_path.iterdir()) == []
