"""Table: files as people write them, the numbers by which an editor shows their rows, and rows that cannot be read."""

import csv
import gzip
import io
import json
import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tupate_hub.data.files import read_table
from tupate_hub.errors import FormatError


@pytest.fixture
def read(tmp_path):
    """`read("a.csv", "text\\nx\\n")` writes a file and reads it."""

    def written(name, content):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return read_table(path)

    return written


def sentences(table):
    return [str(fault) for fault in table.faults]


# ---- separated values ------------------------------------------------------------------------------------------------


def test_a_csv_file(read):
    table = read("a.csv", "text,label\ngood,1\nbad,0\n")
    assert (table.where, table.unit, table.columns) == ("a.csv", "line", ("text", "label"))
    assert table.rows == [{"text": "good", "label": "1"}, {"text": "bad", "label": "0"}]
    assert table.numbers == [2, 3]
    assert table.faults == ()


def test_rows_are_numbered_by_the_line_on_which_they_begin(read):
    table = read("a.csv", 'text,label\n"two\nlines",1\n\n"three\n\nlines",0\nlast,1')
    assert table.numbers == [2, 5, 8]
    assert table.rows[1]["text"] == "three\n\nlines"


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_every_system_s_line_ends_count(read, end):
    table = read("a.csv", end.join(["text,label", "a,1", '"b', 'c",2', "d,3"]))
    assert table.numbers == [2, 3, 5]
    assert [row["label"] for row in table.rows] == ["1", "2", "3"]


@pytest.mark.parametrize("mark", [",", ";", "\t", "|"])
def test_the_header_tells_the_delimiter(read, mark):
    table = read("a.csv", f'"text, in full; or not"{mark}label\ngood{mark}1\n')
    assert table.columns == ("text, in full; or not", "label")
    assert table.rows[0]["label"] == "1"


def test_one_column_needs_no_delimiter(read):
    assert read("a.csv", "text\ngood\n").rows == [{"text": "good"}]


def test_names_are_stripped_and_cells_are_not(read):
    table = read("a.csv", " text , label\n a , 1\n")
    assert table.columns == ("text", "label")
    assert table.rows[0] == {"text": " a ", "label": " 1"}


def test_tab_separated_quotes_that_quote(read):
    table = read("a.tsv", 'text\tlabel\n"a\tb"\t1\n')
    assert table.rows == [{"text": "a\tb", "label": "1"}]


@pytest.mark.parametrize("text", ['"Hello" he said', 'an open " mark', '"open', 'two "words"'])
def test_tab_separated_quotes_that_quote_nothing(read, text):
    table = read("a.tsv", f"text\tlabel\nplain\t0\n{text}\t1\nplain\t0\n")
    assert [row["text"] for row in table.rows] == ["plain", text, "plain"]
    assert table.faults == ()


def test_rows_of_another_width_are_faults(read):
    table = read("a.csv", "text,label\na,1\nb\nc,1,2\nd,0\ne,1,3\n")
    assert [row["text"] for row in table.rows] == ["a", "d"]
    assert sentences(table) == [
        "a.csv, line 3: has 1 cells where the header has 2",
        "a.csv, lines 4 and 6: has 3 cells where the header has 2",
    ]


def test_a_quotation_mark_that_is_never_closed_names_its_line(read):
    table = read("a.csv", 'text,label\na,1\n"b,0\nc,1\n')
    assert len(table.rows) == 1
    (fault,) = sentences(table)
    assert fault.startswith("a.csv, line 3: cannot be read from here on")


def test_long_cells_are_read_and_the_process_is_left_as_it_was(read):
    before = csv.field_size_limit()
    assert len(read("a.csv", "text,label\n" + "x" * 300_000 + ",1\n").rows[0]["text"]) == 300_000
    assert csv.field_size_limit() == before


def test_two_columns_of_one_name_are_refused(read):
    with pytest.raises(FormatError, match="two columns of the name 'text'"):
        read("a.csv", "text,label,text \na,b,c\n")


@given(
    rows=st.lists(
        st.tuples(
            st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0")), st.text("ab", min_size=1)
        ),
        min_size=1,
        max_size=8,
    )
)
def test_what_a_writer_writes_is_read(tmp_path_factory, rows):
    stream = io.StringIO()
    writer = csv.writer(stream)
    writer.writerow(["text", "label"])
    writer.writerows(rows)
    path = tmp_path_factory.mktemp("csv") / "a.csv"
    path.write_bytes(stream.getvalue().encode())
    assert [(row["text"], row["label"]) for row in read_table(path).rows] == rows


# ---- encodings -------------------------------------------------------------------------------------------------------


def test_lines_that_are_not_utf_8_are_named(read):
    table = read("a.csv", b"text,label\nok,1\ncaf\xe9,1\nok,0\nna\xefve,0\n")
    assert sentences(table) == ["a.csv, lines 3 and 5: the encoding is broken: this is not UTF-8 text"]
    assert table.faults[0].hint == "save it as UTF-8, for example: iconv -f WINDOWS-1252 -t UTF-8 a.csv > utf8-a.csv"
    assert len(table.rows) == 4  # what else is wrong with them is told as well


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.json"])
def test_nothing_in_the_middle_is_no_text(read, name):
    content = {"a.csv": "text\na\0b\n", "a.jsonl": '\n{"text": "a\0b"}\n', "a.json": '[{"text":\n "a\0b"}]'}[name]
    table = read(name, content)
    assert sentences(table)[0] == f"{name}, line 2: has NUL characters, which are no part of a text"
    assert table.faults[0].hint == f"take them out: tr -d '\\000' < {name} > text-{name}"


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_byte_order_marks_are_no_part_of_the_header(read, encoding):
    table = read("a.csv", "text,label\nö,1\n".encode(encoding))
    assert table.columns == ("text", "label")
    assert table.rows == [{"text": "ö", "label": "1"}]


@pytest.mark.parametrize("encoding", ["UTF-16-LE", "UTF-16-BE"])
@pytest.mark.parametrize("text", ["text,label\nso ö,1\n", "текст,метка\nхорошо,1\n"])
def test_utf_16_without_a_mark_is_told_as_such(read, encoding, text):
    name = encoding.replace("16-", "16")
    with pytest.raises(FormatError, match=f"a.csv is {name} without a byte order mark") as caught:
        read("a.csv", text.encode(encoding))
    assert caught.value.hint == f"save it as UTF-8: iconv -f {name} -t UTF-8 a.csv > utf8-a.csv"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (random.Random(0).randbytes(500), "a.csv is not text"),
        (b"PK\x03\x04" + bytes(50), "a.csv is a ZIP archive, as Excel's"),
        (gzip.compress(b"text\n", mtime=0), "a.csv is compressed by gzip"),
    ],
)
def test_what_is_no_text_at_all_is_told_as_such(read, content, said):
    with pytest.raises(FormatError, match=said) as caught:
        read("a.csv", content)
    assert caught.value.hint


def test_half_of_utf_16_is_broken(read):
    assert "encoding is broken" in sentences(read("a.csv", "text\nö\n".encode("utf-16")[:-1]))[0]


# ---- JSON ------------------------------------------------------------------------------------------------------------


def test_json_lines(read):
    table = read("a.jsonl", '{"text": "a", "label": 1}\n\n{"text": "b\\u2028c", "score": null}\n')
    assert (table.unit, table.columns, table.numbers) == ("line", ("text", "label", "score"), [1, 3])
    assert table.rows[1] == {"text": "b\u2028c", "score": None}


def test_exotic_line_ends_inside_a_text_do_not_end_a_line(read):
    line = json.dumps({"text": "one\u2028two\x85three"}, ensure_ascii=False)
    assert read("a.jsonl", f"{line}\n{line}\n").numbers == [1, 2]


def test_lines_that_are_no_objects_are_faults(read):
    table = read("a.jsonl", '{"text": "a"}\n{"text": \n3\n"x"\n{"text": "b"}\n[]\n' + "[" * 100_000 + "\n")
    assert table.numbers == [1, 5]
    assert sentences(table) == [
        "a.jsonl, lines 2 and 7: this is not JSON",
        "a.jsonl, lines 3, 4 and 6: this is not a JSON object with a field for each column",
    ]


def test_numbers_that_json_does_not_have_are_read(read):
    assert math.isnan(read("a.jsonl", '{"score": NaN}\n').rows[0]["score"])


def test_a_list_of_objects(read):
    table = read("a.json", '\n [{"text": "a"},\n 3, {"text": "b"}]')
    assert (table.unit, table.numbers) == ("row", [1, 3])
    assert sentences(table) == ["a.json, row 2: this is not a JSON object with a field for each column"]


def test_json_lines_under_the_other_name(read):
    assert read("a.json", '{"text": "a"}\n{"text": "b"}\n').numbers == [1, 2]


@pytest.mark.parametrize("text", ["[", "[1, 2", "[" * 100_000, "[1] 2"])
def test_a_list_that_is_no_json_is_refused(read, text):
    with pytest.raises(FormatError, match=r"a\.json is not JSON") as caught:
        read("a.json", text)
    assert "one object a line" in caught.value.hint


# ---- corpora ---------------------------------------------------------------------------------------------------------

SQUAD = {
    "version": "v2.0",
    "data": [
        {"title": "rain", "paragraphs": [{"context": "It rains in May.", "qas": [
            {"id": "1", "question": "When?", "answers": [{"text": "May", "answer_start": 12}], "is_impossible": False},
            {"id": "2", "question": "Why?", "answers": [], "is_impossible": True},
        ]}]},
    ],
}  # fmt: skip


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("name", ["train-v2.0.json", "a.jsonl", "a.json.gz"])
def test_squad(read, name, indent):
    content = json.dumps(SQUAD, indent=indent).encode("utf-8-sig")
    table = read(name, gzip.compress(content, mtime=0) if name.endswith("gz") else content)
    assert (table.where, table.unit, table.columns) == (name, "row", ("context", "question", "answers"))
    assert [(row["question"], row["answers"]) for row in table.rows] == [
        ("When?", [{"text": "May", "answer_start": 12}]),
        ("Why?", []),
    ]
    assert (list(table.numbers), table.faults) == ([1, 2], ())


def test_one_object_in_json_lines_is_one_row(read):
    assert read("a.jsonl", '{"data": "x"}').rows == [{"data": "x"}]


@pytest.mark.parametrize(
    ("document", "advice"),
    [
        ({"version": 1, "rows": [{"text": "a"}, {"text": "b"}]}, "its rows are in 'rows': python3 -c "),
        ({"text": {"0": "a"}, "label": {"0": 1}}, "it is written by column: python3 -c "),
        ({"text": "a"}, "give a list of objects, or one object a line"),
    ],
)
@pytest.mark.parametrize("indent", [None, 2])
def test_one_object_in_place_of_rows_is_told_as_such(read, document, advice, indent):
    with pytest.raises(FormatError, match=r"a\.json is one JSON object, with '.*', where a list") as caught:
        read("a.json", json.dumps(document, indent=indent))
    assert caught.value.hint.startswith(advice)


def test_squad_without_questions_has_no_rows(read):
    with pytest.raises(FormatError, match="has no rows"):
        read("a.json", '{"data": [{"paragraphs": []}]}')


@pytest.mark.parametrize("name", ["a.conll", "a.bio", "a.IOB", "a.conll.gz"])
def test_conll(read, name):
    content = b"\xef\xbb\xbfin O\nParis B-place\n\nyes O\n"
    table = read(name, gzip.compress(content, mtime=0) if name.endswith("gz") else content)
    assert (table.where, table.unit, table.columns) == (name, "line", ("tokens", "tags"))
    assert [row["tokens"] for row in table.rows] == [["in", "Paris"], ["yes"]]
    assert list(table.numbers) == [1, 4]


def test_conll_that_is_no_utf_8(read):
    assert sentences(read("a.conll", b"in O\ncaf\xe9 O\n")) == [
        "a.conll, line 2: the encoding is broken: this is not UTF-8 text"
    ]


# ---- Parquet ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def parquet():
    return pytest.importorskip("pyarrow.parquet", reason="needs pyarrow")


def test_parquet(parquet, tmp_path):
    import pyarrow

    rows = [{"text": "a", "tags": [1, 2], "answers": {"text": ["x"], "answer_start": [3]}}, {"text": None, "tags": []}]
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "a.parquet")
    table = read_table(tmp_path / "a.parquet")
    assert (table.unit, table.columns, list(table.numbers)) == ("row", ("text", "tags", "answers"), [1, 2])
    assert list(table.rows) == [rows[0], {**rows[1], "answers": None}]


FEATURES = {
    "text": {"dtype": "string", "_type": "Value"},
    "label": {"names": ["bad", "good"], "_type": "ClassLabel"},
    "tags": {"feature": {"names": ["O", "B-x"], "_type": "ClassLabel"}, "_type": "Sequence"},
}


@pytest.mark.parametrize(
    ("metadata", "names"),
    [
        (json.dumps({"info": {"features": FEATURES}}), {"label": ("bad", "good"), "tags": ("O", "B-x")}),
        ("{", {}),
        ("[]", {}),
        ('{"info": {"features": [1]}}', {}),
        ('{"info": {"features": {"label": {"names": [1, 2]}}}}', {}),
        ('{"info": {"features": {"label": {"names": 5}}}}', {}),
        ("[" * 100_000, {}),
    ],
)
def test_names_of_classes_that_datasets_left_in_the_file(parquet, tmp_path, metadata, names):
    import pyarrow

    table = pyarrow.Table.from_pylist([{"text": "a", "label": 1, "tags": [0]}])
    parquet.write_table(table.replace_schema_metadata({"huggingface": metadata}), tmp_path / "a.parquet")
    assert read_table(tmp_path / "a.parquet").label_names == names


@pytest.mark.parametrize("content", [b"", b"PAR1", b"PAR1" + b"\xff" * 60 + b"PAR1", b"no parquet at all"])
def test_parquet_that_is_none_is_refused(parquet, read, content):
    with pytest.raises(FormatError, match=r"a\.parquet is not readable Parquet"):
        read("a.parquet", content)


# ---- files -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.csv.gz", "a.CSV", "b.c.csv"])
def test_suffixes(read, name):
    content = b"text\na\n"
    table = read(name, gzip.compress(content, mtime=0) if name.endswith("gz") else content)
    assert table.rows == [{"text": "a"}]
    assert table.where == name


@pytest.mark.parametrize("content", [b"no gzip", gzip.compress(b"text\n" * 99, mtime=0)[:-9]])
def test_a_damaged_gzip_is_refused(read, content):
    with pytest.raises(FormatError, match="cannot be read") as caught:
        read("a.csv.gz", content)
    assert "whole" in caught.value.hint


@pytest.mark.parametrize("name", ["a.xlsx", "a", "a.gz", "csv"])
def test_other_suffixes_are_refused(read, name):
    with pytest.raises(FormatError, match="is not a table that can be read") as caught:
        read(name, "text\na\n")
    assert ".parquet" in caught.value.hint


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", ""),
        ("a.csv.gz", ""),
        ("a.csv", "text,label\n"),
        ("a.jsonl", "\n"),
        ("a.json", "[]"),
        ("a.conll", "\n"),
    ],
)
def test_a_file_without_rows_is_refused(read, name, content):
    with pytest.raises(FormatError, match="has no rows"):
        read(name, content)


def test_a_file_that_is_gone_is_refused(tmp_path):
    with pytest.raises(FormatError, match=r"cannot be read \(FileNotFoundError\)"):
        read_table(tmp_path / "a.csv")


# ---- more rows than are used -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.jsonl", "a.json", "a.conll"])
def test_of_many_rows_some_are_drawn(tmp_path, name):
    rows = [{"text": f"t{n}", "label": "ab"[n % 2]} for n in range(50)]
    mark = "\t" if name == "a.tsv" else ","
    content = {
        "a.jsonl": "".join(json.dumps(row) + "\n" for row in rows),
        "a.json": json.dumps(rows),
        "a.conll": "".join(f"{row['text']} B-{row['label']}\n\n" for row in rows),
    }.get(name, f"text{mark}label\n" + "".join(f"{row['text']}{mark}{row['label']}\n" for row in rows))
    (tmp_path / name).write_text(content)
    whole, table = read_table(tmp_path / name), read_table(tmp_path / name, 10)
    assert (len(whole.rows), whole.drawn_from, whole.faults) == (50, None, ())
    assert (len(table.rows), table.drawn_from) == (10, 50)
    assert table.numbers == sorted(table.numbers)
    assert all(whole.rows[whole.numbers.index(at)] == row for at, row in zip(table.numbers, table.rows, strict=True))
    assert sentences(table) == [f"{name}: 10 of its 50 rows are used, drawn by chance and always the same"]
    assert read_table(tmp_path / name, 10) == table


def test_what_is_wrong_with_rows_that_are_not_drawn_is_told(tmp_path):
    (tmp_path / "a.csv").write_bytes(b"text,label\n" + b"a,1\n" * 50 + b"b\ncaf\xe9,1\n")
    told = sentences(read_table(tmp_path / "a.csv", 10))
    assert "a.csv, line 53: the encoding is broken: this is not UTF-8 text" in told
    assert "a.csv, line 52: has 1 cells where the header has 2" in told


# ---- hostile files ---------------------------------------------------------------------------------------------------


@given(raw=st.binary(max_size=200) | st.text('",;\t\n\r\0ab[]{}: 1', max_size=200).map(str.encode))
@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl", "json", "conll", "csv.gz"])
def test_any_bytes_are_a_table_or_are_refused(tmp_path_factory, suffix, raw):
    path = tmp_path_factory.mktemp("fuzz") / f"a.{suffix}"
    path.write_bytes(raw)
    try:
        table = read_table(path)
    except FormatError as error:
        assert error.hint
    else:
        assert len(table.rows) == len(table.numbers)
        lines = raw.count(b"\n") + raw.count(b"\r") + 1
        assert all(1 <= number <= max(lines, len(raw)) for number in table.numbers)
