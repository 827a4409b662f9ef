import pytest

from asel_lib import parameters

DEFAULTS = 'profile = "demo"\nratios = []\nkeep_ratio = 0.5\nseed = 0\nretrain = False'


@pytest.mark.parametrize(
    ("injected", "message"),
    [
        ('datset = "aid"', "unknown notebook parameter 'datset': this notebook has profile"),
        ("sed = 1", "Did you mean 'seed'"),
        ('seed = "1"', "parameter 'seed' is '1' .str.: expected int"),
        ("seed = True", "expected int"),
        ('ratios = "0.5"', "expected list"),
        ("retrain = 1", "expected bool"),
        ("keep_ratio = float('nan')", r"'keep_ratio' is float\('nan'\): expected a plain finite value"),
    ],
)
def test_an_unknown_or_badly_typed_parameter_is_named(injected, message):
    with pytest.raises(ValueError, match=message):
        parameters.check(["", DEFAULTS, f"# Parameters\n{injected}\n", "parameters.check(In)"])


def test_good_parameters_and_none_at_all_pass():
    parameters.check(["", DEFAULTS, '# Parameters\nprofile = "smoke"\nkeep_ratio = 1\nratios = [0.5]\n', "check"])
    parameters.check(["", DEFAULTS, "parameters.check(In)"])
    parameters.check([""])
