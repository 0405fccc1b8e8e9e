"""Data sets of all editions, and their splits and missing-rate tables."""

from __future__ import annotations

import csv
from pathlib import Path

from same_results.converted_phantoms import conversion_home, convert, phantom
from same_results.workbench import Bench

EDITIONS = (
    "brats2018", "brats2019", "brats2020", "brats2021", "brats2023-gli", "brats2023-men", "brats2023-met",
    "brats2023-ped", "brats2023-ssa", "brats2024-gli", "brats2024-met", "brats2024-ped", "brats2024-ssa",
    "brats2024-goat", "fets2021", "fets2022", "fets2024", "myops2020",
)  # fmt: skip


def record_convert(bench: Bench) -> None:
    """Phantoms of all editions, converted: images, labels, and JSON files."""
    folders = conversion_home(bench)
    for number, edition in enumerate(EDITIONS, 501):
        if not bench.wants(f"convert/{edition}"):
            continue
        with bench.part(f"convert/{edition}"):
            dataset = convert(bench, edition, number)
            bench.record.add(f"convert/{edition}/data set", dataset.name)
            bench.record.add_folder(f"convert/{edition}", dataset)
            preprocessed = folders["nnUNet_preprocessed"] / dataset.name
            bench.record.add_folder(f"convert/{edition}/preprocessed", preprocessed)
    for edition, number, options in (
        ("brats2018", 601, ["--labels", "classes", "--name", "Mine"]),
        ("myops2020", 602, ["--labels", "classes"]),
        ("brats2024-gli", 603, ["--splits", "patients"]),
    ):
        with bench.part(f"convert/{edition} {' '.join(options)}"):
            dataset = convert(bench, edition, number, *options)
            bench.record.add_folder(f"convert/{edition} {' '.join(options)}", dataset)
    with bench.part("convert/auto"):
        source = phantom(bench, "brats2023-ped", "--validation", 1)
        with bench.variables(**folders):
            bench.run("convert/auto", "convert", "auto", source, "-d", 604, "-np", 1, "--disable_progress_bar")
        (dataset,) = folders["nnUNet_raw"].glob("Dataset604_*")
        bench.record.add_file("convert/auto/dataset.json", dataset / "dataset.json")
    with bench.part("convert/list"):
        said = bench.run("convert/list", "convert", "--list")
        editions = [line.split()[0] for line in said.splitlines() if not line.startswith(" ")]
        bench.record.add("convert/list/editions", editions)
    with bench.part("convert/refused"), bench.variables(**folders):
        bench.run("convert/refused/unknown edition", "convert", "brats1999", bench.root, "-d", 605, expected=1)
        bench.run("convert/refused/empty folder", "convert", "brats2018", bench.new("empty"), "-d", 605, expected=1)
        bench.run("convert/refused/no source", "convert", "brats2018", expected=2)


def record_splits(bench: Bench) -> None:
    """Splits by patients, by institutions and by lists; missing-rate tables by rates, lists and institutions."""
    folders = conversion_home(bench)
    preprocessed = folders["nnUNet_preprocessed"]

    def kept(name: str, dataset: Path) -> None:
        for file in sorted((preprocessed / dataset.name).glob("*.json")):
            bench.record.add_file(f"{name}/{file.name}", file)
            file.unlink()

    with bench.part("splits/patients"):
        dataset = convert(bench, "brats2024-gli", 621, source=phantom(bench, "brats2024-gli", cases=8))
        with bench.variables(**folders):
            for options in ([], ["--folds", 3, "--seed", 5], ["--folds", 2, "--patient_key", r"(BraTS-GLI-\d+)-\d+"]):
                name = f"splits/patients {' '.join(map(str, options))}".strip()
                bench.run(name, "splits", "patients", "-d", 621, *options, "--overwrite")
                kept(name, dataset)
    with bench.part("splits/institutions"):
        source = phantom(bench, "fets2022", cases=8)
        dataset = convert(bench, "fets2022", 622, source=source)
        (table,) = source.rglob("partitioning_1.csv")
        sites = sorted({row["Partition_ID"] for row in csv.DictReader(table.read_text().splitlines())})
        bench.record.add("splits/institutions/sites", sites)
        with bench.variables(**folders):
            institutions: list[list[object]] = [["institutions"], ["institutions", table, "--folds", len(sites)]]
            for options in institutions:
                name = f"splits/institutions {len(options)}"
                bench.run(name, "splits", "-d", 622, *options, "--overwrite")
                kept(name, dataset)
            lacks = [f"{sites[0]}=t1ce,flair", f"{sites[1]}=t1"]
            bench.run("rates/lacks", "rates", "-d", 622, "--tag", "site", "--lacks", *lacks)
            rates = ["--rates", "t1ce=0.5", "t2=0.3", "--sites", table, "--seed", 2]
            bench.run("rates/by institution", "rates", "-d", 622, "--tag", "drawn", *rates)
            kept("rates/institutions", dataset)
    with bench.part("splits/lists"):
        dataset = convert(bench, "brats2020", 623, source=phantom(bench, "brats2020", cases=8))
        cases = sorted(path.name.removesuffix(".nii.gz") for path in (dataset / "labelsTr").glob("*.nii.gz"))
        lists = bench.new("lists")
        parts = {"train1": cases[:4], "val1": cases[4:6], "test1": cases[6:]}
        parts |= {"train2": cases[4:], "val2": cases[:2], "test2": cases[2:4]}
        for part, names in parts.items():
            text = "".join(f"{name}_vol.npy\n" if part.endswith("2") else f"HG_{name}\n" for name in names)
            (lists / f"brats_{part}.txt").write_text(text)
        with bench.variables(**folders):
            bench.run("splits/lists", "splits", "-d", 623, *sorted(lists.glob("*.txt")))
            rates = ["t1=0.2", "t1ce=0.4", "t2=0.6", "flair=0.8"]
            bench.run("rates/drawn", "rates", "-d", 623, "--tag", "mr2468", "--rates", *rates, "--seed", 1037)
            table = lists / "passion.csv"
            masks = ['"[1, 0, 1, 1]"', '"[True, True, False, False]"', '"[0, 0, 0, 1]"']
            rows = [f"{case},{number % 3},{masks[number % 3]},[{number % 3}]" for number, case in enumerate(cases)]
            table.write_text("\n".join(["data_name,mask_id,mask,pos_mask_ids", *rows]) + "\n")
            bench.run("rates/csv", "rates", "-d", 623, "--tag", "printed", "--csv", table)
            order = ["--order", "t1", "t2", "t1ce", "flair"]
            bench.run("rates/csv in another order", "rates", "-d", 623, "--tag", "order", "--csv", table, *order)
            bench.run("rates/refused/again", "rates", "-d", 623, "--tag", "printed", "--rates", "t1=0.1", expected=1)
            bench.run("rates/refused/unknown", "rates", "-d", 623, "--tag", "pd", "--rates", "pd=0.1", expected=1)
        kept("splits/lists", dataset)
