"""Caption columns of Hugging Face data."""

import io
import pickle

import pytest
from PIL import Image

from unirae.core.errors import DataError
from unirae.data.captions import Captioned, drawn_caption
from unirae.data.hf import HFSource


def saved(path, **columns):
    from datasets import Dataset, Features
    from datasets import Image as HFImage

    count = len(next(iter(columns.values())))
    pictures = []
    for i in range(count):
        buffer = io.BytesIO()
        Image.new("RGB", (4, 4), (i, 0, 0)).save(buffer, "PNG")
        pictures.append({"bytes": buffer.getvalue(), "path": None})
    rows = Dataset.from_dict({"image": pictures, **columns})
    rows = rows.cast(Features({**rows.features, "image": HFImage()}))
    rows.save_to_disk(path)
    return path


def opened(path, **options):
    return HFSource(split="train", data_dir=path, **{"val_fraction": 0, **options})


def captions(source):
    return [source.captions_of(i) for i in range(len(source))]


def test_a_column_is_found_by_name_and_type(tmp_path):
    data = saved(tmp_path / "d", text=[1, 2, 3], prompt=[" a ", None, "\r\n"], title=["x", "y", "z"])
    source = opened(data)
    assert source.caption_weights == (1.0,)
    assert captions(source) == [("a",), ("",), ("",)]
    assert [source[i].image.getpixel((0, 0))[0] for i in range(3)] == [0, 1, 2]
    left = Captioned(source, missing="leave_out")
    assert captions(left) == [("a",)]


def test_nothing_is_looked_at_unless_captions_are_asked_for(tmp_path):
    source = opened(saved(tmp_path / "d", text=["a"], caption=["b"]), caption_column="nowhere")
    assert len(source) == 1
    source[0], source.content()
    with pytest.raises(
        DataError, match=r"no column 'nowhere' for captions; its columns are image, text, caption"
    ):
        _ = source.caption_weights


def test_columns_that_are_not_there_or_not_text(tmp_path):
    data = saved(tmp_path / "d", text=["a", "b"], caption=["c", "d"], size=[1, 2], boxes=[[1], [2]])
    with pytest.raises(
        DataError, match=r"several columns \(text, caption\).*caption_column={text:1,caption:1}"
    ):
        _ = opened(data).caption_weights
    for column in ("size", "boxes"):
        with pytest.raises(
            DataError, match=rf"'{column}' of .* must hold texts or lists of texts, not .*choose another"
        ):
            _ = opened(data, caption_column=column).caption_weights
    none = opened(saved(tmp_path / "none", title=["x"]))
    assert none.caption_weights == none.captions_of(0) == ()
    with pytest.raises(DataError, match="hf: none of the 1 pictures of the split 'train' has a caption"):
        Captioned(none, missing="null_prompt")


def test_columns_with_weights(tmp_path):
    data = saved(tmp_path / "d", text=["a", "b"], caption=["c", None])
    source = opened(data, caption_column={"caption": 3, "text": 1})
    assert source.caption_weights == (0.75, 0.25)
    assert captions(source) == [("c", "a"), ("", "b")]
    found = [drawn_caption(source, 0, seed=0, epoch=epoch) for epoch in range(2000)]
    assert abs(found.count("c") / 2000 - 0.75) < 0.05


def test_lists_of_captions_as_coco_has_them(tmp_path):
    data = saved(tmp_path / "d", captions=[["1", "2", "3"], ["4", "", None], [], None], title=["t"] * 4)
    source = opened(data)
    assert source.caption_weights == pytest.approx((1 / 3,) * 3)
    assert captions(source) == [("1", "2", "3"), ("4", "", ""), ("", "", ""), ("", "", "")]
    found = [drawn_caption(source, 0, seed=0, epoch=epoch) for epoch in range(3000)]
    assert all(abs(found.count(c) / 3000 - 1 / 3) < 0.05 for c in "123")
    both = opened(data, caption_column={"captions": 1, "title": 1})
    found = [drawn_caption(both, 1, seed=0, epoch=epoch) for epoch in range(2000)]
    assert abs(found.count("4") / 2000 - 0.5) < 0.05


def test_captions_stay_with_their_rows(tmp_path):
    """Where some are held out, or have no label, and in a worker process that is sent the source."""
    count = 30
    data = saved(
        tmp_path / "d",
        text=[f"number {i}" for i in range(count)],
        caption=[[f"{i}"] * (1 + (i == 7)) for i in range(count)],
        label=[-1 if i % 5 == 0 else i % 2 for i in range(count)],
    )
    for column in ("text", "caption"):
        for split in ("train", "val"):
            source = opened(data, val_fraction=0.3, caption_column=column)
            source = HFSource(split=split, data_dir=data, val_fraction=0.3, caption_column=column)
            _ = source.caption_weights
            for one in (source, pickle.loads(pickle.dumps(source))):
                for i in range(len(one)):
                    number = one[i].image.getpixel((0, 0))[0]
                    assert one.captions_of(i)[0] == (f"number {number}" if column == "text" else str(number))


def test_width_is_of_the_rows_that_are_used(tmp_path):
    data = saved(tmp_path / "d", captions=[["a"], ["b", "c"]], label=[0, -1])
    assert opened(data).caption_weights == (1.0,)
