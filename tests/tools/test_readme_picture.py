"""The picture at the head of the README: where it cannot be drawn, that is said, and nothing is written."""

from tools import readme_picture


def test_a_checkpoint_that_is_not_there_is_a_named_error(workplace, capsys):
    assert readme_picture.main(["--checkpoint", "moon_finetuned"]) == 1
    assert "moon_finetuned" in capsys.readouterr().err
    assert not list(workplace.rglob("*.png"))
