"""The CSV of tables and volumes: layout, and what is refused by name."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from generated_subjects import RATES, write_sheet

from nnunetv2_mmkd.classification.tabular.reader import read_sheet
from nnunetv2_mmkd.errors import InputError

HEAD = "subject,diagnosis,clinical:age,clinical:sex:category,genetic:rs1"


def sheet(folder: Path, *lines: str, head: str = HEAD) -> Path:
    file = folder / "subjects.csv"
    file.write_text("\n".join([head, *lines]) + "\n", encoding="utf-8")
    return file


def test_layout(tmp_path: Path) -> None:
    read = read_sheet(sheet(tmp_path, "s1,CN, 71.5 ,1,", "", "s2,AD,,2,0", "s3,CN,,,1"))
    assert read.modalities == ("clinical", "genomic") and read.diagnoses.to_dict() == {
        "s1": "CN",
        "s2": "AD",
        "s3": "CN",
    }
    assert read.present.values.tolist() == [[True, False], [True, True], [False, True]]
    clinical, rs1 = read.tables["clinical"], read.tables["genomic"]["genetic:rs1"]
    age, sex = clinical["clinical:age"], clinical["clinical:sex:category"]
    assert age.dtype == rs1.dtype == float and sex.dtype == object
    assert (
        age["s1"] == 71.5 and math.isnan(age["s2"]) and sex["s1"] == "1" and sex.isna().tolist() == [False, False, True]
    )


@pytest.mark.parametrize(
    ("cells", "numeric"),
    [
        (("1", "-2.5e3", ""), True),
        (("", "", ""), True),
        (("1", "two", ""), False),
        (("1", "inf", "2"), False),  # no number can stand for it
        (("1", "nan", "2"), False),
    ],
)
def test_a_column_is_numeric_if_all_its_cells_are_finite_numbers(
    tmp_path: Path, cells: tuple[str, ...], numeric: bool
) -> None:
    lines = [f"s{i},{'AB'[i % 2]},1,1,{cell}" for i, cell in enumerate(cells)]
    column = read_sheet(sheet(tmp_path, *lines)).tables["genomic"]["genetic:rs1"]
    assert (column.dtype == float) == numeric
    assert column.isna().tolist() == [cell == "" for cell in cells]
    assert [str(float(cell)) if numeric else cell for cell in cells if cell] == column.dropna().map(str).tolist()


def test_generated_data_have_the_rates_of_adni(tmp_path: Path) -> None:
    read = read_sheet(write_sheet(tmp_path, 300, volumes=True))
    assert read.modalities == ("clinical", "genomic", "biospecimen", "imaging")
    missing = 1 - read.present.mean()
    for name, rate in RATES.items():
        assert 0.2 < missing[name] < 0.8 and abs(missing[name] - rate) < 0.15
    assert read.left_out == ("clinical:PTADDX",)


@pytest.mark.parametrize(
    ("lines", "head", "message"),
    [
        (["s1,CN,1,1,0", "s1,AD,1,1,0"], HEAD, "line 3: subject s1 is given twice"),
        (["s1,CN,,,", "s2,AD,1,1,0"], HEAD, "line 2: subject s1 has no modality"),
        (["s1,CN,1,1"], HEAD, "line 2: 4 cells; expected 5"),
        (["s1,CN,1,1,0", "s2,AD,1,1,0,7"], HEAD, r"subjects\.csv: .* 5 fields in line 3, saw 6"),
        (["s1,CN,1,1,0", 's2,AD,1,1,"0'], HEAD, r"subjects\.csv: cannot be read as CSV"),
        (["s1,CN,1,1,0", "", "s1,AD,1,1,0"], HEAD, "line 4: subject s1 is given twice"),
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
        (["s1,CN,1,2"], "subject,diagnosis,clinical:age,clinical:age", "'clinical:age' is given twice"),
    ],
)
def test_bad_sheets_are_named(tmp_path: Path, lines: list[str], head: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_sheet(sheet(tmp_path, *lines, head=head))


def test_a_file_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no\.csv: cannot be read"):
        read_sheet(tmp_path / "no.csv")
