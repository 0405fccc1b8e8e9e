"""The CSV of tables and volumes: layout, and what is refused by name."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from generated_subjects import RATES, write_sheet

from nnunetv2_mmkd.classification.tabular.reader import has, read_sheet
from nnunetv2_mmkd.errors import InputError

HEAD = "subject,diagnosis,clinical:age,clinical:sex:category,genetic:rs1"


def sheet(folder: Path, *lines: str, head: str = HEAD) -> Path:
    file = folder / "subjects.csv"
    file.write_text("\n".join([head, *lines]) + "\n", encoding="utf-8")
    return file


def test_layout(tmp_path: Path) -> None:
    found = read_sheet(sheet(tmp_path, "s1,CN,71.5,1,", "s2,AD,,2,0", "s3,CN,,,1"))
    assert found.modalities == ("clinical", "genomic")
    assert [has(found, row) for row in range(3)] == [
        {"clinical": True, "genomic": False},
        {"clinical": True, "genomic": True},
        {"clinical": False, "genomic": True},
    ]
    age, sex, rs1 = found.columns
    assert age.numeric and not sex.numeric and rs1.numeric and rs1.modality == "genomic"
    assert age.cells[0] == 71.5 and math.isnan(float(age.cells[1])) and sex.cells == ("1", "2", "")


def test_generated_data_have_the_rates_of_adni(tmp_path: Path) -> None:
    found = read_sheet(write_sheet(tmp_path, 300, volumes=True))
    assert found.modalities == ("clinical", "genomic", "biospecimen", "imaging")
    there = [has(found, row) for row in range(300)]
    for name, rate in RATES.items():
        missing = 1 - sum(row[name] for row in there) / 300
        assert 0.2 < missing < 0.8 and abs(missing - rate) < 0.15
    assert found.left_out == ("clinical:PTADDX",)


@pytest.mark.parametrize(
    ("lines", "head", "message"),
    [
        (["s1,CN,1,1,0", "s1,AD,1,1,0"], HEAD, "line 3: subject s1 is there twice"),
        (["s1,CN,,,", "s2,AD,1,1,0"], HEAD, "line 2: subject s1 has nothing"),
        (["s1,CN,1,1"], HEAD, "line 2: 4 cells; expected 5"),
        (["s1,,1,1,0", "s2,AD,1,1,0"], HEAD, "line 2: no diagnosis"),
        (["s1,CN,1,1,0", "s2,CN,1,1,0"], HEAD, "all subjects are CN"),
        ([], HEAD, "has no subject"),
        (["s1,CN,1"], "subject,diagnosis,age", "unknown column 'age'"),
        (["s1,CN,1"], "subject,diagnosis,proteomic:p1", "unknown column 'proteomic:p1'"),
        (["s1,CN,1"], "subject,diagnosis,clinical:age:number", "unknown column 'clinical:age:number'"),
        (["s1,CN,1"], "subject,class,clinical:age", "has no column 'diagnosis'"),
        (["s1,CN", "s2,AD"], "subject,diagnosis", "neither a table nor the column 'imaging'"),
        (
            ["s1,CN,a.nii.gz", "s2,AD,"],
            "subject,diagnosis,imaging",
            r"subject s1: the volume .*a\.nii\.gz does not exist",
        ),
        (["s1,CN,1,2"], "subject,diagnosis,clinical:age,clinical:age", "'clinical:age' is there twice"),
    ],
)
def test_bad_sheets_are_named(tmp_path: Path, lines: list[str], head: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_sheet(sheet(tmp_path, *lines, head=head))


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no\.csv: cannot be read"):
        read_sheet(tmp_path / "no.csv")
