"""Predictions of nnU-Net -> the files and the archive that a challenge's platform takes."""

from __future__ import annotations

import logging
import tarfile
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from io import BytesIO
from pathlib import Path

from tqdm import tqdm

from nnunetv2_mmkd import images as nifti
from nnunetv2_mmkd.disk import cannot_write
from nnunetv2_mmkd.editions.discover import CaseFiles, discover
from nnunetv2_mmkd.editions.spec import EditionSpec
from nnunetv2_mmkd.errors import InputError, first_few
from nnunetv2_mmkd.files import atomic_write, locked, remove_leftovers, replacing
from nnunetv2_mmkd.geometry import Alignment, align, note
from nnunetv2_mmkd.image_names import list_images, refuse_twins
from nnunetv2_mmkd.label_names import translation
from nnunetv2_mmkd.nifti_header import grid_of
from nnunetv2_mmkd.nnunet_json import labels_beside
from nnunetv2_mmkd.output_folders import check_apart
from nnunetv2_mmkd.submission.check import (
    Check,
    check_archive,
    grid_problem,
    label_problem,
    reference_grid,
    reference_header,
    refuse,
)

logger = logging.getLogger(__name__)


def write_submission(
    spec: EditionSpec,
    predictions: Path | str,
    originals: Sequence[Path | str],
    out: Path | str,
    *,
    zip_name: str | None = None,
    file_name: str | None = None,
    allow_missing: bool = False,
    show_progress: bool = True,
) -> Path:
    """Write the submission files of an edition and a flat archive of them, which is read again and checked.

    Labels are turned back to the edition's; the header is the original case's (of its first image), with the
    edition's voxel type. All predictions are checked before the first file is written.

    Args:
        spec: the edition.
        predictions: folder with ``<case>.nii.gz`` (or ``.nii``) in nnU-Net's labels; other files are ignored.
        originals: folders with the original cases, as they were converted.
        out: folder for the files and the archive; made if absent.
        zip_name: name of the archive, ending in ``.zip`` or, where the platform takes it, ``.tar.gz``; default
            ``<edition>_submission.zip``.
        file_name: names of the files, e.g. ``"{case}_seg.nii.gz"``; default: the edition's.
        allow_missing: original cases without a prediction are fine.
        show_progress: show a progress bar.

    Returns:
        the path of the archive.

    Raises:
        InputError: unknown or missing cases, another geometry, foreign labels (with the list of offenders), a broken
            file, or writing fails.
    """
    predictions, out = Path(predictions), Path(out)
    archive = out / archive_name(spec, zip_name or f"{spec.name}_submission")
    if file_name is not None:
        rest = file_name.replace("{case}", "", 1)
        if rest == file_name or set(rest) & set("{}") or Path(rest).name != rest or not rest.endswith(".nii.gz"):
            raise InputError(
                f"file name {file_name!r}: expected a name with {{case}} once that ends in .nii.gz, no folders and no "
                "other braces"
            )
        spec = replace(spec, submission_name=file_name)
    check_apart(out, predictions, *originals)
    found = _predictions(predictions)
    values = _submission_values(spec, predictions)
    cases = {files.case: files for files in discover(spec, originals)}
    check_apart(out, *{files.folder for files in cases.values()})
    refuse(predictions, "predictions that match no original case", [found[name].name for name in found.keys() - cases])
    missing = [case for case in cases if case not in found]
    content = list_images(predictions, ".nii.gz")
    others = tuple(name for name in content.others if nifti.stem_of(name) not in found)
    replace(content, others=others).refuse_lookalikes(dict.fromkeys(missing, "a prediction"))
    if missing and not allow_missing:
        refuse(predictions, "original cases have no prediction (--allow_missing leaves them out)", missing)
    if missing:
        logger.warning("%d original cases have no prediction and are left out, e.g. %s", len(missing), missing[0])
    pairs = {spec.submission_name.format(case=case): (path, cases[case]) for case, path in sorted(found.items())}
    unheard = [name for name in pairs if spec.platform.key(name) is None]
    refuse(out, f"file names in which {spec.platform.name} finds no id ({spec.platform.id_pattern})", unheard)
    contents = _convert_all(spec, predictions, pairs, values, show_progress)
    expected = {spec.submission_name.format(case=case): files for case, files in cases.items()}
    write_files(spec, archive, contents, expected, label_problem, allow_missing=allow_missing)
    return archive


def write_files(
    spec: EditionSpec,
    archive: Path,
    contents: Mapping[str, bytes],
    expected: Mapping[str, CaseFiles],
    check: Check,
    *,
    allow_missing: bool,
) -> None:
    """Write files and, in the same folder, the archive; it is checked before it gets its name.

    Args:
        spec: the edition.
        archive: where it goes; ``.zip`` or ``.tar.gz``.
        contents: file name -> content.
        expected: file name -> case.
        check: see :func:`.check.check_archive`.
        allow_missing: expected files may be absent.
    """
    out = archive.parent
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(out, error) from error
    others = [path.name for path in out.iterdir() if nifti.stem_of(path.name) is not None and path.name not in contents]
    if others:
        logger.warning("%s also holds %d files that are not part of this submission: %s", out, len(others), others[0])
    with locked(out):
        archive.unlink(missing_ok=True)  # an old one must not be taken for this one
        for name, content in contents.items():
            atomic_write(out / name, content)
        with replacing(archive) as temporary:
            temporary.write_bytes(_tar(contents) if archive.name.endswith(".tar.gz") else _zip(contents))
            check_archive(spec, temporary, expected, check, allow_missing=allow_missing)
        remove_leftovers(out)
    logger.info("%s: %d file%s, checked", archive, len(contents), "s" * (len(contents) != 1))


def archive_name(spec: EditionSpec, name: str) -> str:
    """Name of an archive with its ending.

    Raises:
        InputError: a name with folders, or an archive that the platform does not take.
    """
    if Path(name).name != name:
        raise InputError(f"--zip {name!r}: give a file name without folders; the archive goes into the output folder")
    ending = next((ending for ending in (".zip", ".tar.gz") if name.lower().endswith(ending)), None)
    if ending is None:
        return f"{name}{spec.platform.archives[0]}"
    if ending not in spec.platform.archives:
        raise InputError(f"--zip {name!r}: {spec.platform.name} takes {' or '.join(spec.platform.archives)}")
    return name[: -len(ending)] + ending


def _predictions(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        raise InputError(f"folder of predictions {folder} does not exist")
    files = [(stem, path) for path in sorted(folder.iterdir()) if (stem := nifti.stem_of(path.name)) is not None]
    if not files:
        raise InputError(f"{folder} holds no predictions; expected <case>.nii.gz as nnUNetv2_predict writes them")
    stems = [stem for stem, _ in files]
    refuse_twins(set(stems), folder)
    refuse(folder, "cases with two files", sorted({stem for stem in stems if stems.count(stem) > 1}))
    return dict(files)


def _submission_values(spec: EditionSpec, predictions: Path) -> dict[int, int]:
    """Value in a prediction -> value in the submission, by the names in the ``dataset.json`` of the predictions."""
    values = spec.to_submission()
    beside = labels_beside(predictions)
    if beside is None:
        return values
    file, meanings = beside
    own = translation(meanings, spec.label_meanings(), file)
    changed = [f"{value} -> {to}" for value, to in own.items() if value != to]
    if changed:
        logger.warning("%s: labels of %s by name: %s", file, spec.title, ", ".join(changed))
    return {value: values[to] for value, to in own.items()}


def _convert_all(
    spec: EditionSpec,
    predictions: Path,
    pairs: dict[str, tuple[Path, CaseFiles]],
    values: dict[int, int],
    show_progress: bool,
) -> dict[str, bytes]:
    """Submission file name -> content; all offenders are named at once."""
    alignments, problems = _alignments(pairs)
    refuse(predictions, "predictions whose geometry is not that of the original case", problems)
    refuse(
        predictions,
        f"cases whose grid {spec.platform.name} does not take",
        [
            problem
            for name, (_, files) in pairs.items()
            if (problem := grid_problem(spec, name, reference_header(files)))
        ],
    )
    contents: dict[str, bytes] = {}
    foreign = []
    allowed = sorted(values)
    for name, (path, files) in tqdm(pairs.items(), f"submission {spec.title}", disable=not show_progress):
        labels = alignments[name].apply(nifti.integer_labels(path, nifti.read_volume(path).voxels))
        mapped, unknown = nifti.map_labels(labels, values, spec.submission_dtype)
        if unknown:
            foreign.append(f"{path.name} ({first_few(unknown, 5)})")
        contents[name] = nifti.compress(nifti.image_bytes(mapped, reference_header(files)))
    refuse(predictions, f"predictions with labels other than {', '.join(map(str, allowed))}", foreign)
    return contents


def _alignments(pairs: Mapping[str, tuple[Path, CaseFiles]]) -> tuple[dict[str, Alignment], list[str]]:
    """How each prediction gets onto the grid of its original case, which is said; and those that do not."""
    alignments, problems = {}, []
    for name, (path, files) in pairs.items():
        grid, original = grid_of(path, nifti.read_header(path)), reference_grid(files)
        try:
            alignments[name] = align(grid, original)
        except InputError as error:
            problems.append(str(error))
            continue
        changed = note(grid, original, alignments[name])
        if changed is not None:
            logger.warning("%s", changed)
    return alignments, problems


def _zip(contents: Mapping[str, bytes]) -> bytes:
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as opened:
        for name, content in contents.items():
            opened.writestr(zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0)), content)
    return buffer.getvalue()


def _tar(contents: Mapping[str, bytes]) -> bytes:
    buffer = BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as opened:
        for name, content in contents.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            opened.addfile(member, BytesIO(content))
    return nifti.compress(buffer.getvalue())
