from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from largeds_native.errors import ArgumentError
from largeds_native.sources import FailedItem, IndexedSource, Source, as_source, table


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
        ("picture,label\na.png,1\n", "expected a column 'path', found picture, label: say path="),
        ("path,label\na.png,1\n/etc/x.png,2\n", "line 2 of the data: '/etc/x.png' leaves"),
        ("path,label\n../a.png,1\n", "leaves the folder"),
        ("path,label\na/../../b.png,1\n", "leaves the folder"),
        ("path,label\na.png,1.5\n", "expected whole numbers or class names, found double"),
        ("path,label\na.png,1\nb.png,\n", "line 2 of the data: column 'label' has no value"),
        ("path,label\na.png,cat\nb.png,\n", "line 2 of the data: column 'label' has no value"),
        ("path,label\na.png,cat\nb.png,  \n", "line 2 of the data: column 'label' has no value"),
        ("path,label\na.png,cat\n,dog\n", "line 2 of the data: column 'path' has no value"),
        ("path,label,label\na.png,cat,dog\n", "2 columns are named 'label'"),
        ("path,class,category\na.png,cat,dog\n", "columns 'class', 'category' may be meant: say label='class'"),
        ("path,label\n1,1\n", "expected paths, found int64"),
        ("path,label\na.png\n", "can't be read as a table"),
        ("", "can't be read as a table"),
    ],
)
def test_invalid_tables(tmp_path: Path, text: str, expected: str) -> None:
    (tmp_path / "m.csv").write_text(text)
    with pytest.raises(ArgumentError) as caught:
        table(tmp_path / "m.csv")
    assert expected in str(caught.value)
    assert "m.csv" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "line"),
    [("path,label\na.png,1\nä.png,2\n", 3), ("päth,label\na.png,1\n", 1), ("path,label\na.png,Bär\n", 2)],
)
@pytest.mark.parametrize("encoding", ["latin-1", "utf-16"])
def test_other_encodings(tmp_path: Path, text: str, line: int, encoding: str) -> None:
    (tmp_path / "m.csv").write_bytes(text.encode(encoding))
    number = 1 if encoding == "utf-16" else line
    with pytest.raises(ArgumentError, match=rf"m\.csv: line {number} is no UTF-8 text, b.*: save the file as UTF-8"):
        table(tmp_path / "m.csv")


def test_another_encoding_in_a_column_that_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_bytes("path,label,note\na.png,1,schön\n".encode("latin-1"))
    source = table(tmp_path / "m.csv")
    assert any("columns left out: note" in note for note in source.notes)


def test_headers_that_are_no_field_names(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text(",path,image width,../x,images\n0,a.png,3,4,5\n1,b.png,6,7,8\n")
    source = table(tmp_path / "m.csv")
    assert read(source)[1] == {"image_width": [3, 6], "___x": [4, 7]}
    assert "column 'image width' is the field 'image_width'" in source.notes
    assert "columns left out: (without a name), images" in source.notes[-1]


def test_columns_are_found_and_named(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("file,category,size,note\na.png,dog,1,x\nb.png,cat,,y\n")
    source = table(tmp_path / "m.csv")
    assert source.classes == ("cat", "dog")
    names, fields = read(source)
    assert names == ["a.png", "b.png"]
    assert fields["label"] == [1, 0]
    np.testing.assert_array_equal(fields["size"], [1, np.nan])
    assert source.notes[0] == "images are column 'file', labels column 'category'"
    assert source.notes[1].startswith("columns left out: note")
    assert read(table(tmp_path / "m.csv", label="note"))[1]["label"] == [0, 1]
    assert read(table(tmp_path / "m.csv", path="note"))[0] == ["x", "y"]
    with pytest.raises(ArgumentError, match="expected a column 'species', found file, category, size, note"):
        table(tmp_path / "m.csv", label="species")
    (tmp_path / "n.csv").write_text("path,label,kind\na.png,1,2\n")
    source = table(tmp_path / "n.csv", label="kind")
    assert read(source)[1] == {"label": [2]}
    assert "label" in source.notes[-1]


def test_categories_and_lists(tmp_path: Path) -> None:
    species = pa.array(["dog", "cat"]).dictionary_encode()
    box = pa.array([[1, 2, 3, 4], [5, 6, 7, 8]])
    pq.write_table(pa.table({"path": ["a", "b"], "label": species, "box": box}), tmp_path / "d.parquet")
    source = table(tmp_path / "d.parquet")
    assert source.classes == ("cat", "dog")
    assert read(source)[1] == {"label": [1, 0], "box": [[1, 2, 3, 4], [5, 6, 7, 8]]}
    assert source.fields["box"].shape == (4,)
    pq.write_table(pa.table({"path": ["a", "b"], "label": [[0, 1, 1], [1, 0, 0]]}), tmp_path / "l.parquet")
    assert read(table(tmp_path / "l.parquet"))[1] == {"label": [[0, 1, 1], [1, 0, 0]]}
    pq.write_table(pa.table({"path": ["a", "b"], "label": [[0, 1], [1]]}), tmp_path / "r.parquet")
    with pytest.raises(ArgumentError, match="expected lists of one length"):
        table(tmp_path / "r.parquet")


def test_images_inside_a_parquet_file(tmp_path: Path) -> None:
    cells = [{"bytes": f"image {i}".encode(), "path": f"{i}.png"} for i in range(4)] + [{"bytes": None, "path": None}]
    data = pa.table({"image": cells, "label": [3, 2, 1, 0, 0], "weight": [0.0, 1, 2, 3, 4]})
    pq.write_table(data, tmp_path / "i.parquet", row_group_size=2)
    source = table(tmp_path / "i.parquet")
    assert isinstance(source, IndexedSource)
    batch = source.take(np.array([3, 0, 2]))
    assert batch.items == [b"image 3", b"image 0", b"image 2"]
    assert batch.fields["label"].tolist() == [0, 3, 1]
    assert isinstance(source.take(np.array([4])).items[0], FailedItem)
    pq.write_table(pa.table({"image": [b"raw"]}), tmp_path / "b.parquet")
    assert table(tmp_path / "b.parquet").read(0, 1).__next__().items == [b"raw"]


def test_a_data_frame(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"path": ["a.png", "b.png"], "label": ["dog", "cat"]}, index=[7, 8])
    source = as_source(frame)
    assert source.classes == ("cat", "dog")
    assert read(source) == (["a.png", "b.png"], {"label": [1, 0]})
    assert read(table(frame, root=tmp_path))[0] == ["a.png", "b.png"]


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


def test_spaces_around_names(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("path, label\na.png, cat\nb.png,cat\nc.png,dog \n")
    source = table(tmp_path / "m.csv")
    assert source.classes == ("cat", "dog")
    assert read(source)[1] == {"label": [0, 0, 1]}


def test_labels_of_64_bits_without_a_sign() -> None:
    data = pa.table({"path": ["a.png", "b.png"], "label": pa.array([3, 2**64 - 1], pa.uint64())})
    with pytest.raises(ArgumentError, match=r"column 'label': expected labels below 2\*\*63, found 184467440737095516"):
        table(data)
