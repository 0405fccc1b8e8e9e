"""Tables of `mmkd evaluate` and `mmkd compare` for given segmentations."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import nibabel
import numpy as np
from same_results.converted_phantoms import conversion_home, convert, phantom
from same_results.value_record import INTERNAL
from same_results.workbench import Bench

METRICS = ("dice", "hausdorff", "hd95", "hd95_area", "sensitivity", "specificity", "precision", "nsd")

PUBLISHED = (
    ("lckd_table1", "lckd_table2", "mckd_table1", "mckd_table3"),
    ("metakd_table1", "metakd_table4", "metakd_table5", "metakd_table6"),
    ("mst_kdnet_table1", "mst_kdnet_table2", "mst_kdnet_table3", "mst_kdnet_table4"),
    ("passion_table1", "passion_table2", "passion_table3"),
)


def write_predictions(labels: Path, folder: Path, modalities: Sequence[str], quality: float, values: int) -> None:
    """Segmentations for all subsets: the truth, shifted, with holes and islands, at times without its last label.

    Args:
        labels: folder of the truth.
        folder: gets ``SUBSET/CASE.nii.gz``.
        modalities: canonical names.
        quality: share of voxels that are left alone.
        values: largest label.
    """
    for number in range(1, 2 ** len(modalities)):
        subset = "+".join(name for bit, name in enumerate(modalities) if number >> bit & 1)
        for position, file in enumerate(sorted(labels.glob("*.nii.gz"))):
            draw = np.random.default_rng([number, position, int(1000 * quality)])
            image = nibabel.load(file)
            truth = np.asanyarray(image.dataobj)  # type: ignore[attr-defined]
            found = np.roll(truth, draw.integers(-1, 2, 2), (0, 1))
            noise = draw.random(found.shape) > quality + 0.002 * bin(number).count("1")
            found = np.where(noise, draw.integers(0, values + 1, found.shape), found)
            if number % 5 == 0:
                found[found == values] = values - 1
            if number == 2 and position == 0:
                found[:] = 0
            (folder / subset).mkdir(parents=True, exist_ok=True)
            saved = nibabel.Nifti1Image(found.astype(np.uint8), image.affine)  # type: ignore[attr-defined]
            nibabel.save(saved, folder / subset / file.name)


def record_tables(bench: Bench) -> None:
    """``mmkd evaluate`` of given segmentations, and ``mmkd compare``."""
    with bench.part("tables/data"):
        names = ["t1", "t1ce", "t2", "flair"]
        source = phantom(bench, "brats2023-gli", cases=3, incomplete=False)
        dataset = convert(bench, "brats2023-gli", 661, source=source)
        last = sorted((dataset / "labelsTr").glob("*.nii.gz"))[-1]
        image = nibabel.load(last)
        truth = np.asanyarray(image.dataobj).copy()  # type: ignore[attr-defined]
        truth[truth == 3] = 2
        nibabel.save(nibabel.Nifti1Image(truth, image.affine, image.header), last)  # type: ignore[attr-defined]
        given = bench.new("given")
        for method, quality in (("MetaKD", 0.99), ("ModalityDropout", 0.98)):
            write_predictions(dataset / "labelsTr", given / method, names, quality, 3)
        bench.record.add_folder("tables/data", given)
        methods = [f"{path.name}={path}" for path in sorted(given.iterdir())]
        what = ["--predictions", *methods, "-l", dataset / "labelsTr", "-np", 1, "--disable_progress_bar"]
    runs: dict[str, list[object]] = {
        "all": [
            "--metrics", *METRICS, "--lesions", "brats2023-gli", "--et_threshold", 12, "--subsets", "t1+t2", "singles",
        ],
        "nan": ["--metrics", "dice", "nsd", "--tolerance", 2, "--empty", "nan", "--subsets", "singles", "full"],
        "default": ["--published", "metakd_table1", "lckd_table1", "--improvement", "MetaKD"],
    }  # fmt: skip
    outputs = {}
    for run, options in runs.items():
        with bench.part(f"tables/{run}"), bench.variables(**conversion_home(bench)):
            outputs[run] = bench.new("evaluated")
            bench.run(f"tables/{run}", "evaluate", "-o", outputs[run], *what, *options)
            bench.record.add_folder(f"tables/{run}", outputs[run], INTERNAL)
    with bench.part("tables/published"), bench.variables(**conversion_home(bench)):
        out = bench.new("evaluated")
        for tables in PUBLISHED:
            name = f"tables/published {' '.join(tables)}"
            bench.run(name, "evaluate", "-o", out, *what, "--subsets", "full", "t1", "--published", *tables)
            bench.record.add_folder(name, out / "tables")
        bench.run("tables/refused/published", "evaluate", "-o", out, *what, "--published", "metakd_table2", expected=1)
        bench.run("tables/refused/metric", "evaluate", "-o", out, *what, "--metrics", "jaccard", expected=1)
    comparisons: dict[str, list[object]] = {
        "default": [],
        "hd95": ["--metric", "hd95", "--regions", "ET", "TC", "--confidence", 0.9, "--resamples", 500, "--seed", 3],
        "subsets": ["--unit", "subsets", "--average_row"],
        "some": ["--subsets", "t1+t2", "flair", "--common"],
    }
    for name, options in comparisons.items():
        with bench.part(f"tables/compare {name}"):
            file = bench.new("compared") / "comparison.csv"
            rows = ["-i", outputs["default"] / "results.csv", "-o", file]
            said = bench.run(f"tables/compare {name}", "compare", "MetaKD", "ModalityDropout", *rows, *options)
            bench.record.add(f"tables/compare {name}/said", said)
            bench.record.add_file(f"tables/compare {name}/csv", file)
    with bench.part("tables/compare patients"):
        patients = bench.new("patients") / "patients.csv"
        cases = [path.name.removesuffix(".nii.gz") for path in sorted((dataset / "labelsTr").glob("*.nii.gz"))]
        patients.write_text("case,patient\n" + "".join(f"{case},p{n // 2}\n" for n, case in enumerate(cases)))
        rows = ["-i", outputs["default"] / "results.csv", "--patients", patients]
        said = bench.run("tables/compare patients", "compare", "ModalityDropout", "MetaKD", *rows)
        bench.record.add("tables/compare patients/said", said)
        bench.run("tables/compare refused", "compare", "MetaKD", "Nobody", *rows, expected=1)
    with bench.part("tables/myops"), bench.variables(**conversion_home(bench)):
        dataset = convert(bench, "myops2020", 662, source=phantom(bench, "myops2020", cases=3, incomplete=False))
        given = bench.new("given")
        write_predictions(dataset / "labelsTr", given, ["bssfp", "lge", "t2"], 0.98, 5)
        out = bench.new("evaluated")
        what = ["--predictions", f"Mine={given}", "-l", dataset / "labelsTr", "-np", 1, "--disable_progress_bar"]
        bench.run("tables/myops", "evaluate", "-o", out, *what, "--published", "passion_table1", "passion_table2")
        bench.record.add_folder("tables/myops", out, INTERNAL)
