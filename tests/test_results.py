import polars as pl
import pytest

from core.records import SampleRow
from core.results import read_rows, read_table, schema, table_path, to_frame, write_rows

ROW = SampleRow(run_id="r", sample=0, prompt="", text="Grüße 🙂\n", temperature=0.5, top_k=None, top_p=None, seed=3)


def test_schema_follows_the_dataclass():
    assert schema(SampleRow) == {
        "run_id": pl.String(),
        "sample": pl.Int64(),
        "prompt": pl.String(),
        "text": pl.String(),
        "temperature": pl.Float64(),
        "top_k": pl.Int64(),
        "top_p": pl.Float64(),
        "seed": pl.Int64(),
    }


def test_rows_survive_the_file(tmp_path):
    path = write_rows(tmp_path, "samples", "r", [ROW])
    assert path == tmp_path / "samples" / "r.parquet"
    assert [SampleRow(**row) for row in read_rows(tmp_path, "samples", "r")] == [ROW]
    assert [file.name for file in path.parent.iterdir()] == ["r.parquet"]


def test_missing_is_null_and_empty_tables_have_their_columns(tmp_path):
    assert to_frame([ROW], SampleRow)["top_k"].to_list() == [None]
    frame, problems = read_table(tmp_path, "samples")
    assert (frame.height, frame.columns, problems) == (0, list(schema(SampleRow)), [])
    assert read_rows(tmp_path, "samples", "gone") == []


def test_foreign_and_broken_files_do_not_hide_the_others(tmp_path):
    write_rows(tmp_path, "samples", "good", [ROW])
    older = to_frame([ROW], SampleRow).drop("seed").with_columns(run_id=pl.lit("older"), extra=pl.lit(1))
    older.write_parquet(table_path(tmp_path, "samples", "older"))
    table_path(tmp_path, "samples", "torn").write_bytes(b"PAR1 but not for long")
    pl.DataFrame({"sample": ["three"]}).write_parquet(table_path(tmp_path, "samples", "typed"))
    frame, problems = read_table(tmp_path, "samples")
    assert frame.select("run_id", "seed").rows() == [("r", 3), ("older", None)]
    assert [line.split(":")[0].rpartition("/")[2] for line in problems] == ["torn.parquet", "typed.parquet"]
    with pytest.raises(ValueError, match=r"torn\.parquet: cannot be read"):
        read_rows(tmp_path, "samples", "torn")
