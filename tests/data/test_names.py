"""No data set is filed under the name of another one."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from asel_lib import paths
from asel_lib.data import catalog, decode, names
from asel_lib.errors import DatasetError


def pictures(folder, seed):
    """An image set in that folder, of bitmaps: of the same names and sizes whatever they show."""
    for label in ("a", "b"):
        (folder / label).mkdir(parents=True)
        for number in range(3):
            pixels = np.random.default_rng((seed, number, label == "b")).integers(0, 255, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / label / f"{number}.bmp")
    return folder


@pytest.fixture
def two(workplace):
    """Two image sets of the same last name, file names and file sizes."""
    return pictures(workplace / "north" / "views", 0), pictures(workplace / "south" / "views", 1)


def test_the_second_folder_of_a_name_is_called_by_more_of_its_path(two):
    first, second = (decode.load(folder, 8) for folder in two)
    assert (first.name, second.name) == ("views", "south_views")
    assert [decode.load(folder, 8).name for folder in (two[1], two[0])] == ["south_views", "views"]  # and stays so


def test_a_name_goes_to_who_computes_with_it_first_and_looking_takes_none(two):
    assert [catalog.find(folder).name for folder in two] == ["views", "views"]
    assert decode.load(two[1], 8).name == "views"
    assert catalog.find(two[0]).name == "north_views"


def test_a_name_that_is_taken_twice_is_made_longer_until_it_is_free(two, workplace):
    third = pictures(workplace / "other" / "south" / "views", 2)
    found = [decode.load(folder, 8).name for folder in (*two, third)]
    assert found == ["views", "south_views", "other_south_views"]


def test_a_set_that_was_moved_or_copied_keeps_its_name(two, workplace):
    assert decode.load(two[0], 8).name == "views"
    copy = shutil.copytree(two[0], workplace / "copy" / "views")
    assert decode.load(copy, 8).name == "views"
    shutil.move(two[0], workplace / "views")
    assert decode.load(workplace / "views", 8).name == "views"


def test_a_folder_whose_files_change_is_still_that_set(two):
    decode.load(two[0], 8)
    (two[0] / "a" / "0.bmp").unlink()
    assert decode.load(two[0], 8).name == "views"


def test_a_name_that_came_to_stand_for_another_set_meanwhile_is_an_error(two):
    found = catalog.find(two[1])
    decode.load(two[0], 8)
    with pytest.raises(DatasetError, match="south/views and .*north/views would both be called 'views'"):
        names.claim(found)


@pytest.mark.parametrize("content", ["", "[]", '{"views": 1}', '{"views": {"folder": 1}}', "[" * 5000])
def test_a_damaged_list_of_names_counts_as_none(two, content):
    file = paths.results() / "runs" / "names.json"
    file.parent.mkdir(parents=True)
    file.write_text(content)
    assert decode.load(two[0], 8).name == "views"
    assert json.loads(file.read_text())["views"]["folder"] == str(two[0])


def test_where_nothing_can_be_written_images_are_still_read(two):
    paths.results().write_text("a file where the folder should be")
    assert decode.load(two[0], 8).name == "views"
