"""MyoPS as PASSION reports it: seven subsets, LV, RV and MYO of whole subjects, whatever the labels are declared as.

What is expected is computed here from the phantoms' own files, by the values on disk and without this package.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import permutations
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from nnunetv2_mmkd.conversion.convert import convert
from nnunetv2_mmkd.editions.catalogue import EDITIONS
from nnunetv2_mmkd.evaluation.published import load_published
from nnunetv2_mmkd.evaluation.regions import evaluated_regions
from nnunetv2_mmkd.evaluation.result_table import ResultTable
from nnunetv2_mmkd.evaluation.score import Predictions, ScoreSettings, score
from nnunetv2_mmkd.evaluation.table_writers import as_markdown
from nnunetv2_mmkd.evaluation.tables import subset_table
from nnunetv2_mmkd.phantom.heart_case import HeartConfig
from nnunetv2_mmkd.phantom.writer import write_phantom

MYOPS = EDITIONS["myops2020"]
SUBSETS = ("bssfp", "lge", "t2", "bssfp+lge", "bssfp+t2", "lge+t2", "bssfp+lge+t2")
ON_DISK = {"LV": (500,), "RV": (600,), "MYO": (200, 1220, 2221)}
TO_NNUNET = {0: 0, 200: 1, 500: 2, 600: 3, 1220: 4, 2221: 5}
CASES = tuple(f"myops_training_{number}" for number in (101, 102, 103))
SIZE = 32

Spoil = Callable[[np.ndarray], np.ndarray]


def array(file: Path) -> np.ndarray:
    return np.asanyarray(nib.load(file).dataobj)


def dice(predicted: np.ndarray, true: np.ndarray) -> float:
    return 2 * float((predicted & true).sum()) / float(predicted.sum() + true.sum())


class Hearts:
    """Phantoms as the challenge distributes them, converted, and segmentations that are wrong in a known way."""

    def __init__(self, root: Path, labels: str) -> None:
        self.root = root
        write_phantom(root / "source", len(CASES), HeartConfig(size=SIZE, slices=4), edition=MYOPS)
        self.data = convert(MYOPS, [root / "source"], 520, labels=labels, processes=1, show_progress=False)
        self.truth = {case: array(root / "source" / "train25_myops_gd" / f"{case}_gd.nii.gz") for case in CASES}

    def predict(self, spoil: Spoil, subsets: tuple[str, ...] = SUBSETS, method: str = "a") -> dict[str, np.ndarray]:
        """Write the spoilt truth as the segmentations of a method; returns them by the values on disk."""
        spoilt = {case: spoil(values.copy()) for case, values in self.truth.items()}
        for case, values in spoilt.items():
            grid = nib.load(self.data / "labelsTr" / f"{case}.nii.gz")
            written = np.vectorize(TO_NNUNET.get)(values).astype(np.uint8)
            for subset in subsets:
                file = self.root / method / subset / f"{case}.nii.gz"
                file.parent.mkdir(parents=True, exist_ok=True)
                nib.save(nib.Nifti1Image(written, grid.affine), file)
        return spoilt

    def score(
        self, subsets: tuple[str, ...] = SUBSETS, method: str = "a", metrics: tuple[str, ...] = ("dice",)
    ) -> ResultTable:
        expected = dict.fromkeys(CASES, subsets)
        dataset = json.loads((self.data / "dataset.json").read_text())
        return score(
            [Predictions(method, self.root / method, expected)], self.data / "labelsTr", dataset,
            ScoreSettings(metrics=metrics), self.root / "cache", progress=False,
        )  # fmt: skip


@pytest.fixture(params=["regions", "classes"])
def hearts(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hearts:
    (tmp_path / "raw").mkdir()
    monkeypatch.setenv("nnUNet_raw", str(tmp_path / "raw"))
    return Hearts(tmp_path, request.param)


def worse_towards_the_apex(values: np.ndarray) -> np.ndarray:
    """Each slice moves one voxel more than the one above it; the last loses its left blood pool."""
    for number in range(values.shape[2]):
        values[..., number] = np.roll(values[..., number], number, axis=0)
    last = values[..., -1]
    last[last == 500] = 200
    return values


def test_dice_is_of_the_subject(hearts: Hearts) -> None:
    """Of the volume, not the mean over its slices, which is another number here."""
    spoilt = hearts.predict(worse_towards_the_apex)
    table = hearts.score().rows.set_index(["case", "subset", "region"])["value"]
    for case in CASES:
        for region, values in ON_DISK.items():
            predicted, true = np.isin(spoilt[case], values), np.isin(hearts.truth[case], values)
            assert table[case, "t2", region] == pytest.approx(dice(predicted, true), abs=1e-12)
            slices = [dice(predicted[..., k], true[..., k]) for k in range(true.shape[2])]
            assert abs(np.mean(slices) - table[case, "t2", region]) > 0.003


def test_what_lies_within_the_wall_does_not_matter_to_myo(hearts: Hearts) -> None:
    """MYO is the union of normal myocardium, edema and scar."""

    def all_normal(values: np.ndarray) -> np.ndarray:
        return np.where(np.isin(values, (1220, 2221)), 200, values)

    hearts.predict(all_normal)
    means = hearts.score().rows.groupby("region")["value"].mean()
    assert means["LV"] == means["RV"] == means["MYO"] == 1
    assert means["scar"] == means["edema_scar"] == 0


def test_distances_are_in_millimetres(hearts: Hearts) -> None:
    """One voxel within the slices is 5 mm, though slices are 12 to 23 mm apart."""
    hearts.predict(lambda values: np.roll(values, 1, axis=0), subsets=("lge",))
    table = hearts.score(("lge",), metrics=("hausdorff",)).rows
    found = table[table["region"].isin(list(ON_DISK))]["value"]
    assert found.to_numpy() == pytest.approx(160 / SIZE, abs=1e-3)


def test_seven_rows_of_three_regions(hearts: Hearts) -> None:
    hearts.predict(worse_towards_the_apex, subsets=SUBSETS[:3])
    hearts.predict(lambda values: values, subsets=SUBSETS[3:])
    table = hearts.score()
    made = subset_table(table, "dice", regions=tuple(ON_DISK))
    assert made.subsets == SUBSETS and made.columns == (("LV", "a"), ("RV", "a"), ("MYO", "a"))
    expected = table.rows[table.rows["subset"] == "lge"].groupby("region")["value"].mean()[list(ON_DISK)]
    assert made.means[1] == pytest.approx(100 * expected.to_numpy())
    assert made.means[6].tolist() == [100, 100, 100]
    assert made.averages == pytest.approx((3 * made.means[0] + 400) / 7)
    lines = as_markdown(made).splitlines()
    assert lines[0] == "| bSSFP | LGE | T2 | LV a | RV a | MYO a |"
    assert [line[: len("| ● | ○ | ○ |")] for line in lines[2:9]] == [
        *("| ● | ○ | ○ |", "| ○ | ● | ○ |", "| ○ | ○ | ● |"),
        *("| ● | ● | ○ |", "| ● | ○ | ● |", "| ○ | ● | ● |", "| ● | ● | ● |"),
    ]


def test_passions_numbers_are_of_these_regions_and_of_all_permutations() -> None:
    cells = load_published("passion_table1").query("dataset == 'MyoPS2020'")
    labels = {"background": 0, "a": 1, "b": 2, "c": 3, "d": 4, "e": 5}
    regions = evaluated_regions({"labels": labels, "edition": "myops2020"})
    assert set(cells["region"]) - {"average"} == set(ON_DISK) <= set(regions)
    rates = {"s": 0.3, "m": 0.5, "l": 0.7}
    expected = {f"IDT ({','.join(each)}) = ({', '.join(str(rates[x]) for x in each)})" for each in permutations("sml")}
    assert set(cells["setting"]) == {"PDT", *expected}
    average = cells.query("region == 'average' and metric == 'dice'").set_index(["setting", "method"])["value"]
    for setting in expected:
        assert average[setting].idxmax() == "mmFormer+PASSION" and len(average[setting]) == 4
        assert average[setting].max() < average["PDT", "mmFormer"]
