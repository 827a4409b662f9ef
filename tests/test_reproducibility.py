import torch

from asel_lib import reproducibility


def test_a_derived_generator_depends_on_its_parts_alone():
    first = torch.rand(3, generator=reproducibility.generator(0, "order", 1))
    torch.rand(100)
    assert torch.equal(first, torch.rand(3, generator=reproducibility.generator(0, "order", 1)))
    assert not torch.equal(first, torch.rand(3, generator=reproducibility.generator(0, "order", 2)))
    assert reproducibility.derived_seed("a", "b") == 8657728790167507790  # the same on every machine, for ever


def test_parts_do_not_run_together():
    assert reproducibility.derived_seed("ab", "c") != reproducibility.derived_seed("a", "bc")


def test_seeded_blocks_leave_the_global_generator_alone():
    torch.manual_seed(1)
    expected = torch.rand(2)
    torch.manual_seed(1)
    with reproducibility.seeded(0):
        torch.rand(50)
    assert torch.equal(torch.rand(2), expected)


def test_the_environment_names_versions_device_and_commit():
    found = reproducibility.environment()
    assert torch.__version__.startswith(found["torch"])
    assert {"python", "timm", "device", "device_name", "commit"} <= found.keys()
