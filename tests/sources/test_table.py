from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from largeds_native.errors import ArgumentError, StoreError
from largeds_native.sources import Source, table


def read(source: Source) -> tuple[list[str], dict[str, list[object]]]:
    (batch,) = source.read(0, source.count or 0)
    return batch.names, {name: np.asarray(values).tolist() for name, values in batch.fields.items()}


def test_csv_and_parquet_are_equal(tmp_path: Path) -> None:
    text = "path,label,weight,age,note\na/1.png,dog,0.5,3,hello\nb.png,cat,1.5,4,\n"
    (tmp_path / "m.csv").write_text(text)
    columns = {"path": ["a/1.png", "b.png"], "label": ["dog", "cat"], "weight": [0.5, 1.5], "age": [3, 4]}
    pq.write_table(pa.table({**columns, "note": ["hello", None]}), tmp_path / "m.parquet")
    csv, parquet = table(tmp_path / "m.csv"), table(tmp_path / "m.parquet")
    assert csv.classes == parquet.classes == ("cat", "dog")
    expected = (["a/1.png", "b.png"], {"label": [1, 0], "weight": [0.5, 1.5], "age": [3, 4]})
    assert read(csv) == read(parquet) == expected
    assert csv.fingerprint() == parquet.fingerprint()
    assert csv.fields["weight"].dtype == np.float64
    (batch,) = csv.read(0, 1)
    assert batch.items == [str(tmp_path / "a/1.png")]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("file,label\na.png,1\n", "expected a column 'path', found file, label"),
        ("path,label\na.png,1\n/etc/x.png,2\n", "line 2 of the data: '/etc/x.png' leaves"),
        ("path,label\n../a.png,1\n", "leaves the folder"),
        ("path,label\na/../../b.png,1\n", "leaves the folder"),
        ("path,label\na.png,1.5\n", "expected whole numbers or class names, found double"),
        ("path,label\na.png,1\nb.png,\n", "line 2 of the data: column 'label' has no value"),
        ("path,weight\na.png,1\nb.png,\n", "column 'weight' has no value"),
        ("path,label\n1,1\n", "expected paths, found int64"),
        ("path,label\na.png\n", "can't be read as a manifest"),
        ("", "can't be read as a manifest"),
    ],
)
def test_invalid_manifests(tmp_path: Path, text: str, expected: str) -> None:
    (tmp_path / "m.csv").write_text(text)
    with pytest.raises(ArgumentError) as caught:
        table(tmp_path / "m.csv")
    assert expected in str(caught.value)
    assert "m.csv" in str(caught.value)


def test_bad_field_names(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("path,../x\na.png,1\n")
    with pytest.raises(StoreError, match="expected a field's name"):
        table(tmp_path / "m.csv")


def test_outside_is_allowed_on_request(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("path\n/data/x.png\n../y.png\n")
    source = table(tmp_path / "m.csv", root=tmp_path / "r", outside=True)
    (batch,) = source.read(0, 2)
    assert batch.items == ["/data/x.png", str(tmp_path / "r/../y.png")]
    assert source.fields == {}


def test_not_parquet(tmp_path: Path) -> None:
    (tmp_path / "m.parquet").write_bytes(b"PAR1 not really")
    with pytest.raises(ArgumentError, match=r"m\.parquet"):
        table(tmp_path / "m.parquet")
