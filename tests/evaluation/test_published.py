"""The papers' printed tables: complete, readable, suspect cells flagged."""

from __future__ import annotations

import pandas as pd
import pytest

from nnunetv2_mmkd.errors import InputError
from nnunetv2_mmkd.evaluation.published import load_published, published_names
from nnunetv2_mmkd.evaluation.subsets import AVERAGE, subset_name

MODALITIES = {
    "ADNI": ("clinical", "genomic", "biospecimen", "imaging"),
    "Audiovision-MNIST": ("image", "audio"),
}
BRATS = ("t1", "t1ce", "t2", "flair")
NAMES = published_names()
SCORES = ("dice", "hd95", "hd", "accuracy", "f1")
"""Metrics that are scores of a method; ``improvement`` and ``p_value`` compare methods."""

BY_SUBSET = [
    "metakd_table1",
    "metakd_table2",
    "metakd_table4",
    "metakd_table5",
    "mckd_table1",
    "lckd_table1",
    "lckd_table2",
    "passion_table3",
    "mst_kdnet_table1",
]


def flags(name: str, **cells: str) -> str:
    frame = load_published(name)
    for column, value in cells.items():
        frame = frame[frame[column] == value]
    assert len(frame) == 1, frame
    return str(frame["flag"].iloc[0])


def check_averages(frame: pd.DataFrame) -> pd.DataFrame:
    """Each printed average over subsets and the average of its rows.

    Args:
        frame: as :func:`load_published` gives it.

    Returns:
        One row per average that has at least two rows below it: ``dataset, setting, method, region, metric, rows``
        (how many), ``printed, recomputed, tolerance`` and ``agrees``. The tolerance is half a unit in the last place
        of the average plus half a unit in the last place of the rows, for both are rounded.
    """
    keys = ["dataset", "setting", "method", "region", "metric"]
    found = []
    for group, cells in frame[frame["metric"].isin(SCORES)].groupby(keys, sort=False):
        averages = cells[cells["subset"] == AVERAGE].dropna(subset=["value"])
        rows = cells[cells["subset"] != AVERAGE].dropna(subset=["value"])
        if len(averages) != 1 or len(rows) < 2:
            continue
        printed, recomputed = float(averages["value"].iloc[0]), float(rows["value"].mean())
        tolerance = _half_unit(averages["printed"].iloc[0]) + max(_half_unit(cell) for cell in rows["printed"])
        agrees = abs(printed - recomputed) <= tolerance + 1e-9
        found.append((*group, len(rows), printed, recomputed, tolerance, agrees))
    return pd.DataFrame(found, columns=[*keys, "rows", "printed", "recomputed", "tolerance", "agrees"])


def _half_unit(printed: str) -> float:
    decimals = len(printed.rstrip("%").partition(".")[2])
    return 0.5 * 10.0**-decimals


def test_all_five_papers_and_demoseg_are_included() -> None:
    assert {load_published(name)["paper"].iloc[0] for name in NAMES} == {
        "MetaKD",
        "MCKD",
        "LCKD",
        "PASSION",
        "MST-KDNet",
        "DeMoSeg",
    }
    assert len(NAMES) == 19


@pytest.mark.parametrize("name", NAMES)
def test_cells_are_well_formed(name: str) -> None:
    frame = load_published(name)
    for dataset, subset in set(zip(frame["dataset"], frame["subset"], strict=True)):
        if subset != AVERAGE:
            assert subset_name(subset.split("+"), MODALITIES.get(dataset, BRATS)) == subset
    assert set(frame["metric"]) <= {*SCORES, "improvement", "p_value"}
    assert (frame["note"][frame["flag"] != ""] != "").all()
    assert not frame.duplicated(["dataset", "setting", "method", "subset", "region", "metric"]).any()
    numbers = frame[frame["value"].notna()]
    assert [float(text.rstrip("%")) for text in numbers["printed"]] == list(numbers["value"])
    assert set(frame["printed"][frame["value"].isna()]) <= {"N/A", "-", ""}


@pytest.mark.parametrize("name", BY_SUBSET)
def test_fifteen_subsets_and_an_average(name: str) -> None:
    frame = load_published(name)
    scores = frame[frame["metric"].isin(SCORES)]
    for _, rows in scores.groupby(["setting", "method", "region", "metric"]):
        assert len(rows) == 16 and sum(rows["subset"] == AVERAGE) == 1


@pytest.mark.parametrize("name", NAMES)
def test_averages_agree_unless_flagged(name: str) -> None:
    frame = load_published(name)
    for _, row in check_averages(frame).iterrows():
        cell = {key: row[key] for key in ("dataset", "setting", "method", "region", "metric")}
        flagged = "average" in flags(name, subset=AVERAGE, **cell)
        assert row["agrees"] != flagged, dict(row)


@pytest.mark.parametrize("name", ["passion_table1", "passion_table2"])
def test_averages_over_regions_agree(name: str) -> None:
    frame = load_published(name)
    for _, rows in frame.groupby(["dataset", "setting", "method", "metric"]):
        printed = rows[rows["region"] == "average"]["value"].item()
        assert printed == pytest.approx(rows[rows["region"] != "average"]["value"].mean(), abs=0.0101)


def test_copied_cells_of_metakd_table5_are_flagged() -> None:
    for region in ("TC", "WT"):
        for subset in ("t2", "t1+flair"):
            cell = {"method": "MetaKD", "subset": subset, "region": region, "metric": "dice"}
            assert flags("metakd_table5", **cell) == "duplicate"
    for region in ("ET", "TC", "WT"):
        cell = {"method": "SFusion", "subset": "t1ce+flair", "region": region, "metric": "dice"}
        assert flags("metakd_table5", **cell) == "duplicate"


def test_row_nine_of_lckd_is_flagged_and_is_t1_t2() -> None:
    one, two = load_published("lckd_table1"), load_published("lckd_table2")
    row = one[one["subset"] == "t1+t2"]
    assert len(row) == 15 and (row["flag"] == "order").all()
    ours = row[row["method"] == "LCKD"].set_index("region")["value"]
    again = two[(two["subset"] == "t1+t2") & (two["method"] == "LCKD-m")].set_index("region")["value"]
    pd.testing.assert_series_equal(ours, again)


def test_suspects_of_mst_kdnet_are_flagged_and_not_repaired() -> None:
    table = load_published("mst_kdnet_table2")
    wrong = table[table["flag"] == "implausible"]
    assert list(wrong["value"]) == [0.7, 0.1, 0.2] and set(wrong["region"]) == {"WT"}
    for region in ("TC", "ET"):
        cell = {"method": "MST-KDNet", "subset": AVERAGE, "region": region}
        assert flags("mst_kdnet_table1", **cell) == "average"
    for name in ("mst_kdnet_table3", "mst_kdnet_table4"):
        cell = {"dataset": "FeTS2024", "method": "MST-KDNet", "region": "WT", "metric": "dice"}
        if name == "mst_kdnet_table3":
            del cell["dataset"]
        assert "contradicts" in flags(name, **cell)


def test_metakd_and_mckd_print_the_same_table1() -> None:
    keep = ["subset", "region", "metric", "value"]
    ours, theirs = (
        load_published(f"{name}_table1").query("method not in ('U-HeMIS',)")[keep].reset_index(drop=True)
        for name in ("metakd", "mckd")
    )
    pd.testing.assert_frame_equal(ours, theirs)


def test_unknown_table() -> None:
    with pytest.raises(InputError, match="metakd_table1"):
        load_published("metakd_table9")
