"""Tables that are something else than captions stop nobody, however damaged they are."""

import io

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from unirae.core.errors import DataError
from unirae.data.caption_tables import read_table


def read(name: str, content: bytes):
    return read_table(f"in/{name}", content, lambda column: column == "text")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("metadata.csv", b"id,text\n1,x,y,z\n"),
        ("metadata.csv", b'id,text\n1,"never closed\n'),
        ("metadata.csv", b"id,id,text\n"),
        ("metadata.csv", b"\nid,caf\xe9\n1,2\n"),
        ("metadata.csv", b"id,text\n1,caf\xe9\n"),
        ("metadata.csv", "id,text\n1,2,3\n".encode("utf-16")),
        ("metadata.jsonl", b'{"id": 1, "text": "x"}\n{"id"'),
        ("metadata.jsonl", b'{"id": 1, "text": "x"}\n[]\n'),
        ("metadata.jsonl", b'{"id": 1, "text": "x"}\n{"text": "caf\xe9"}\n'),
        ("metadata.jsonl", b'{"id": 1, "text": "caf\xe9"}\n'),
    ],
)
def test_a_table_that_names_no_pictures_may_be_damaged(name, content, caplog):
    assert read(name, content) is None
    assert f"in/{name} is not read for captions: no column `file_name`; its columns are id" in caplog.text
    with pytest.raises(DataError, match=rf"^in/{name}, line [123]: "):
        read(name, content.replace(b"id", b"file_name").replace(b"i\0d\0", "file_name".encode("utf-16-le")))


def test_of_a_parquet_file_without_names_no_row_is_read(monkeypatch, caplog):
    stored = io.BytesIO()
    pq.write_table(pa.table({"id": [1, 2], "text": ["a", "b"]}), stored)

    def no_rows(self, **options):
        raise AssertionError("read")

    monkeypatch.setattr(pq.ParquetFile, "iter_batches", no_rows)
    assert read("metadata.parquet", stored.getvalue()) is None
    assert "its columns are id, text" in caplog.text


def test_a_table_without_rows_has_its_columns():
    stored = io.BytesIO()
    pq.write_table(
        pa.table({"file_name": pa.array([], pa.string()), "text": pa.array([], pa.string())}), stored
    )
    for name, content in (("metadata.csv", b"file_name,text\n"), ("metadata.parquet", stored.getvalue())):
        table = read(name, content)
        assert table is not None
        assert (table.columns, table.rows) == (("text",), [])
