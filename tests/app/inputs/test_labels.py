"""Labels that a user names: numbers and names are never taken for one another."""

import pytest

from unirae.app.inputs.labels import check_labels, parse_labels
from unirae.core.errors import ConfigError
from unirae.models.checkpoints.reading import Checkpoint

NUMERIC = ("1", "2", "10")


def parsed(text, names=NUMERIC):
    return parse_labels(text, names, num_classes=len(names))


def test_names_that_are_numbers_must_say_which_they_are():
    assert parsed("name=1, number=1,name=10, number=0") == (0, 1, 2, 0)
    for word in ("1", "2"):
        with pytest.raises(ConfigError, match=f"write number={word} or name={word}"):
            parsed(f"number=0,{word}")


def test_what_can_mean_one_class_alone_needs_no_prefix():
    assert parsed("0,10,3") == (0, 2, 3)
    assert parsed("1,0,2", names=("0", "1")) == (1, 0, 2)
    assert parsed("tench, Goldfish,1,name=tinca tinca", names=("tench, Tinca tinca", "goldfish")) == (
        0,
        1,
        1,
        0,
    )


@pytest.mark.parametrize(
    "word", ["number=4", "number=-1", "number=x", "number=", "name=3", "name=", "4", "-1", "x", ""]
)
def test_what_is_no_class_is_refused(word):
    with pytest.raises(ConfigError, match="is no class of this model; give a number from 0 to 2"):
        parsed(word)


def test_a_name_of_several_classes_says_which_numbers():
    with pytest.raises(ConfigError, match="write which: number=0, number=2"):
        parsed("crane", names=("crane, bird", "cat", "crane, machine"))


def test_lists_of_classes_are_shortened(tmp_path):
    names = [f"class {i}" for i in range(1000)]
    trained = Checkpoint(tmp_path / "c.ckpt", {"unirae": {"class_names": names}})
    check_labels(trained, names, accept=False)
    check_labels(None, names, accept=False)
    with pytest.raises(ConfigError, match=r"1000 in all.*class 3 is class 3 there and other here") as caught:
        check_labels(trained, [*names[:3], "other", *names[4:]], accept=False)
    assert len(str(caught.value)) < 600
