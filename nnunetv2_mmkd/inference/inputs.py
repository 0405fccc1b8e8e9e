"""Where the cases of a prediction come from: nnU-Net's naming first, else what lies there, an edition, or a table."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from nnunetv2_mmkd.editions.catalogue import EDITIONS, get_edition
from nnunetv2_mmkd.editions.discover import discover
from nnunetv2_mmkd.editions.spellings import Speller
from nnunetv2_mmkd.errors import InputError, first_few
from nnunetv2_mmkd.files import LONGEST_NAME
from nnunetv2_mmkd.image_names import list_images
from nnunetv2_mmkd.inference.cases import Case, case_of_files, cases_of_folder
from nnunetv2_mmkd.inference.input_folder import read_folder
from nnunetv2_mmkd.inference.manifest import read_manifest
from nnunetv2_mmkd.inference.model_folder import TrainedModel
from nnunetv2_mmkd.inference.naming import folder_naming
from nnunetv2_mmkd.inference.reader import completing_plans
from nnunetv2_mmkd.names import canonical, indices

log = logging.getLogger(__name__)

NIFTI = (".nii.gz", ".nii")


@dataclass(frozen=True)
class InputImages:
    """What is to be predicted, and how to read it.

    Attributes:
        folder: with the images.
        manifest: table of the cases (:mod:`.manifest`), with paths relative to the folder.
        edition: name of an edition or YAML file; the folder is read as ``mmkd convert`` reads it.
        spellings: modality -> words that stand for it in the names of files.
        ignored: words; files whose names have one are left out.
        output_name: of a segmentation, without ending: ``{case}``, and ``{folder}`` of its images below the folder.
    """

    folder: str
    manifest: Path | None = None
    edition: str | None = None
    spellings: Mapping[str, Sequence[str]] = field(default_factory=dict)
    ignored: Sequence[str] = ()
    output_name: str = "{case}"

    def __post_init__(self) -> None:
        if self.manifest is not None and (self.edition or self.spellings or self.ignored):
            raise InputError("--manifest names every image: leave out --edition, --modalities and --ignore")
        if self.edition is not None and (self.spellings or self.ignored):
            raise InputError("--edition says how images are named: leave out --modalities and --ignore")
        name = self.output_name
        rest = re.sub(r"\{(case|folder)\}", "x", name)
        parts = rest.split("/")
        if set(rest) & set("{}\\") or "{case}" not in name or {"", ".", ".."} & set(parts):
            raise InputError(
                f"--output_name {name!r}: expected {{case}}, perhaps {{folder}}, and no other braces or way out of the "
                "output folder, e.g. '{folder}/{case}_seg'"
            )
        if any(part != part.strip() or part.startswith("~") or not part.isprintable() for part in parts):
            raise InputError(
                f"--output_name {name!r}: expected names without blanks at their ends, '~' at their start and "
                "characters that cannot be printed, e.g. '{folder}/{case}_seg'"
            )

    def outputs(self, cases: Iterable[Case], output: str, ending: str) -> list[str]:
        """The output files of the cases, without ending.

        Raises:
            InputError: two cases have the same one.
        """
        stem = self.output_name[: -len(ending)] if self.output_name.endswith(ending) else self.output_name
        files: dict[str, str] = {}
        for case in cases:
            first = next(file for file in case.files if file is not None)
            folder = os.path.relpath(os.path.dirname(first), self.folder)
            name = os.path.normpath(stem.format(case=case.identifier, folder=folder))
            file = os.path.normpath(os.path.join(output, name))
            if any(len(os.fsencode(part)) > LONGEST_NAME - 50 for part in (name + ending).split(os.sep)):
                raise InputError(
                    f"--output_name {self.output_name[:60]!r}: the name of case {case.identifier} would be longer than "
                    f"{LONGEST_NAME - 50} bytes; choose a shorter one"
                )
            if files.setdefault(file, case.identifier) != case.identifier:
                raise InputError(
                    f"--output_name {self.output_name!r}: the cases {files[file]} and {case.identifier} would both be "
                    f"{file}"
                )
        return list(files)


def find_cases(source: InputImages, model: TrainedModel, *, show: bool = False) -> list[Case]:
    """The cases of an input; what was taken for what is said, unless it is nnU-Net's naming.

    Args:
        source: the input.
        model: whose modalities they have.
        show: say it there, too.

    Raises:
        InputError: see :func:`.cases.cases_of_folder`, :func:`.input_folder.read_folder`,
            :func:`.manifest.read_manifest` and :func:`~nnunetv2_mmkd.editions.discover.discover`.
    """
    modalities, root = model.modalities, Path(source.folder)
    plain = not (source.spellings or source.ignored or source.manifest or source.edition)
    if plain and _is_nnunet(source.folder, model.dataset_json.file_ending):
        cases = _nnunet(source.folder, model)
        return _said(cases, source.folder) if show else cases
    found: Mapping[str, Mapping[int, Path]]
    if source.manifest is not None:
        kind, found = str(source.manifest), read_manifest(source.manifest, modalities, root)
    elif source.edition is not None:
        kind, found = source.edition, _of_edition(source.edition, root, modalities)
    else:
        own = {modalities[indices([name], modalities)[0]]: words or (name,) for name, words in source.spellings.items()}
        numbers = folder_naming(modalities, model.dataset_json, source.folder).channels
        content = read_folder(
            root, Speller(modalities, own, EDITIONS.values()), _endings(model), source.ignored, numbers
        )
        kind, found = content.kind, content.cases
        if not found:
            return _nnunet(source.folder, model)  # which says what was expected
    log.info("%s, read as %s: %d case%s", source.folder, kind, len(found), "s" * (len(found) != 1))
    channels = range(len(modalities))
    cases = [
        case_of_files(case, modalities, [str(images[index]) if index in images else None for index in channels])
        for case, images in sorted(found.items())
    ]
    return _said(cases, source.folder)


def _said(cases: list[Case], folder: str) -> list[Case]:
    """Say what was taken for what, a line for each case."""
    for case in cases:
        taken = [
            f"{name}: {case.missing[name]}" if file is None else f"{name} = {os.path.relpath(file, folder)}"
            for name, file in zip(case.modalities, case.files, strict=True)
        ]
        log.info("%s: %s", case.identifier, ", ".join(taken))
    return cases


def _is_nnunet(folder: str, ending: str) -> bool:
    """Whether a folder has an image in nnU-Net's naming."""
    return any(re.fullmatch(r".+_[0-9]{4}", stem) for stem in list_images(folder, ending).stems)


def _nnunet(folder: str, model: TrainedModel) -> list[Case]:
    below = sorted({path.parent.name for path in Path(folder).glob(f"*/*{model.dataset_json.file_ending}")})
    if below:
        log.warning("%s has images in nnU-Net's naming; folders in it are not read: %s", folder, first_few(below, 5))
    return cases_of_folder(folder, folder_naming(model.modalities, model.dataset_json, folder))


def _endings(model: TrainedModel) -> list[str]:
    """The endings of files that the model's reader reads; both of NIfTI where it reads one."""
    ending = model.dataset_json.file_ending
    supported = list(completing_plans(model).image_reader_writer_class().planned.supported_file_endings)
    return list(dict.fromkeys([ending, *supported, *(NIFTI if {*supported, ending} & {*NIFTI} else ())]))


def _of_edition(name: str, root: Path, modalities: Sequence[str]) -> dict[str, dict[int, Path]]:
    """The cases below a folder, as ``mmkd convert`` finds them."""
    spec = get_edition(name)
    names = [canonical(channel.display) for channel in spec.channels]
    unknown = [each for each in names if each not in modalities]
    if len(unknown) == len(names):
        raise InputError(f"{spec.title} has {', '.join(names)}, and this model {', '.join(modalities)}: none in common")
    if unknown:
        log.info("%s: the model has no %s; these images are not read", spec.title, ", ".join(unknown))
    found = {
        files.case: {
            modalities.index(each): path
            for each, path in zip(names, files.images, strict=True)
            if path is not None and each in modalities
        }
        for files in discover(spec, [root])
    }
    empty = [case for case, images in found.items() if not images]
    if empty:
        raise InputError(f"case {empty[0]} has no image of {', '.join(modalities)}; take it out of {root}")
    return found
