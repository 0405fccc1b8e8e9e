"""What completes a data set: ``case_map.json``, and ``dataset.json`` as the last file of all."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nnunetv2_mmkd import __version__
from nnunetv2_mmkd.conversion.folder import INDENT
from nnunetv2_mmkd.conversion.records import CaseRecord
from nnunetv2_mmkd.editions.discover import CaseFiles
from nnunetv2_mmkd.editions.spec import EditionSpec
from nnunetv2_mmkd.files import temporary_folder, write_json
from nnunetv2_mmkd.nnunet_json import read_object


def write_dataset_json(
    target: Path,
    spec: EditionSpec,
    labels: str,
    cases: Sequence[CaseFiles],
    records: Sequence[CaseRecord],
    institutions: Mapping[str, str],
) -> None:
    """Write ``case_map.json``, then ``dataset.json`` as the last file of all."""
    from nnunetv2.dataset_conversion.generate_dataset_json import generate_dataset_json  # heavy; workers do without

    write_json(target / "case_map.json", _case_map(spec, cases, records, institutions), INDENT)
    declared, order = spec.dataset_labels(labels)
    temporary = temporary_folder(target)
    generate_dataset_json(
        str(temporary),
        channel_names=spec.channel_names(),
        labels=declared,
        num_training_cases=sum(files.label is not None for files in cases),
        file_ending=".nii.gz",
        regions_class_order=order,
        dataset_name=target.name,
        reference=spec.reference,
        license=spec.licence,
        converted_by=f"nnunetv2-mmkd {__version__}",
        edition=spec.name,
        recommended_configuration=spec.configuration,
        missing_modalities={record.case: record.missing for record in records if record.missing},
    )
    content = read_object(temporary / "dataset.json")
    content["citation"] = list(spec.citation)  # generate_dataset_json stores the release under this key
    write_json(target / "dataset.json", content, INDENT)
    shutil.rmtree(temporary)


def _case_map(
    spec: EditionSpec, cases: Sequence[CaseFiles], records: Sequence[CaseRecord], institutions: Mapping[str, str]
) -> dict[str, Any]:
    missing = {record.case: record.missing for record in records}
    resampled = {record.case: record.resampled for record in records}
    return {
        files.case: {
            "edition": spec.name,
            "source": files.relative,
            "path": str(files.folder),
            "grade": files.grade,
            "patient": files.patient or spec.patient(files.case),
            "institution": institutions.get(files.case),
            **({"resampled": resampled[files.case]} if spec.onto else {}),
            "modalities": [channel.name for channel in spec.channels if channel.name not in missing[files.case]],
            "images": "imagesTs" if files.label is None else "imagesTr",
        }
        for files in cases
    }
