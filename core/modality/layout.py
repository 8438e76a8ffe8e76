"""Paths -> split and class: how folders in an upload are read. Pure: looks at names only.

Understood: class folders, with or without split folders around (or right inside) them, in any number of wrapping
folders; a flat folder of images is unlabelled. A class of nested folders is named by its path, `Greek/alpha`. A folder
`unlabelled` (or `unlabeled`) beside class folders is no class: its images have no label.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from core.contract.datasets import SPLITS, Split
from core.modality.image import SUFFIXES

Folder = tuple[str, ...]
SPLIT_NAMES: dict[str, Split] = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "dev": "validation",
    "test": "test",
    "testing": "test",
}
_UNLABELLED = frozenset({"unlabelled", "unlabeled"})
_CLUTTER = frozenset({"__macosx", "thumbs.db", "desktop.ini", "$recycle.bin", "@eadir"})


@dataclass(frozen=True, slots=True)
class Placed:
    """An image that is part of the data set: `index` counts in the list that was given."""

    index: int
    split: Split | None
    label: str | None


@dataclass
class Layout:
    """What the folders mean. `faults` are (code, example) pairs."""

    placed: list[Placed] = field(default_factory=list)
    labelled: bool = False
    empty_classes: list[str] = field(default_factory=list)
    faults: list[tuple[str, str]] = field(default_factory=list)


@dataclass(slots=True)
class _Place:
    """An image on its way: the folders that remain once the split is taken off are its class."""

    index: int
    path: str
    split: Split | None
    folder: Folder


def is_clutter(path: str) -> bool:
    """Whether an operating system left it there: hidden files, `__MACOSX`, `Thumbs.db` and the like."""
    return any(part.startswith(".") or part.casefold() in _CLUTTER for part in path.split("/"))


def has_image_suffix(path: str) -> bool:
    """Whether the name says that it is an image in a format that is read."""
    return PurePosixPath(path).suffix.lower() in SUFFIXES


def split_of(folder: str) -> Split | None:
    """The split a folder's name stands for, in any case of letters."""
    return SPLIT_NAMES.get(folder.casefold())


def read_layout(images: Sequence[str], folders: Iterable[str] = ()) -> Layout:
    """Read the folders.

    `images`: clean relative paths of the images; `folders`: other folders, to find classes without images.

    A folder that holds images itself is a class, with all that lies deeper. Images beside class folders (or beside
    split folders) are left out. Spellings that differ in case only are one class if they never stand side by side.
    """
    layout = Layout()
    paths = [tuple(path.split("/")[:-1]) for path in images]
    known = {tuple(folder.split("/")) for folder in folders}
    wrapper = _wrapper(paths, known)
    inside = {index: path[len(wrapper) :] for index, path in enumerate(paths) if path[: len(wrapper)] == wrapper}
    level = _split_level(list(inside.values()))
    places = [
        _Place(index, images[index], split_of(folder[level]), folder[:level] + folder[level + 1 :])
        if level is not None
        else _Place(index, images[index], None, folder)
        for index, folder in inside.items()
        if level is None or (len(folder) > level and split_of(folder[level]))
    ]
    layout.labelled = any(place.folder for place in places)
    if layout.labelled:
        places = [place for place in places if place.folder]
        common = _common_parents([place.folder for place in places])
        for place in places:
            place.folder = place.folder[common:]
        labels = _labels(places, layout)
        classes = {name for name in labels.values() if not _says_unlabelled(name)} or set(labels.values())
        said = {name: name if name in classes else None for name in labels.values()}
        layout.placed = [Placed(place.index, place.split, said[labels[place.index]]) for place in places]
        if level != 1:
            layout.empty_classes = _empty_classes(known, wrapper, level == 0, common, set(labels.values()))
    else:
        layout.placed = [Placed(place.index, place.split, None) for place in places]
    taken = {place.index for place in layout.placed}
    layout.faults += [("image_outside_class", path) for index, path in enumerate(images) if index not in taken]
    return layout


def _says_unlabelled(name: str) -> bool:
    return name.partition("/")[0].casefold() in _UNLABELLED


def _wrapper(paths: Sequence[Folder], known: set[Folder]) -> Folder:
    """The folders around the data set: as long as all leads through one folder that is no split."""
    wrapper: Folder = ()
    while True:
        deeper = [path for path in paths if len(path) > len(wrapper)]
        tops = {path[len(wrapper)] for path in deeper}
        if len(tops) != 1 or split_of(next(iter(tops))):
            break
        one_level = all(len(path) == len(wrapper) + 1 for path in deeper)
        if one_level and len(deeper) < sum(path[: len(wrapper)] == wrapper for path in paths):
            break  # images beside one class folder
        wrapper += tuple(tops)
        paths = deeper
    flat = all(path == wrapper for path in paths)
    if wrapper and flat and any(len(folder) == len(wrapper) and _siblings(folder, wrapper) for folder in known):
        return wrapper[:-1]  # the only class with images, beside empty ones
    return wrapper


def _siblings(folder: Folder, other: Folder) -> bool:
    return folder[:-1] == other[:-1] and folder != other and split_of(folder[-1]) is None


def _split_level(folders: Sequence[Folder]) -> int | None:
    """Which level of folders is splits: the first (all of it, or a split folder has class folders in it), the second
    (every class folder is divided), or none."""
    tops = {folder[0] for folder in folders if folder}
    splits = {top for top in tops if split_of(top)}
    deep = any(len(folder) > 1 and folder[0] in splits for folder in folders)
    if splits and (splits == tops or deep):
        return 0
    divided = bool(folders) and all(len(folder) > 1 and split_of(folder[1]) for folder in folders)
    return 1 if divided else None


def _common_parents(folders: Sequence[Folder]) -> int:
    """How many leading folders all classes share; a class keeps at least its last."""
    common = 0
    while all(len(folder) > common + 1 and folder[common] == folders[0][common] for folder in folders):
        common += 1
    return common


def _labels(places: Sequence[_Place], layout: Layout) -> dict[int, str]:
    """Class name of each image by its index."""
    holders = {place.folder for place in places}
    names = {}
    for place in places:
        owner = next(place.folder[:n] for n in range(1, len(place.folder) + 1) if place.folder[:n] in holders)
        if owner != place.folder:
            layout.faults.append(("nested_folders", place.path))
        names[place.index] = "/".join(owner)
    spelling = _spellings(places, names, layout)
    return {index: spelling[name] for index, name in names.items()}


def _spellings(places: Sequence[_Place], names: dict[int, str], layout: Layout) -> dict[str, str]:
    """Which class each spelling stands for, where names differ in case only."""
    splits: dict[str, set[Split | None]] = defaultdict(set)
    for place in places:
        splits[names[place.index]].add(place.split)
    alike: dict[str, list[str]] = defaultdict(list)
    for name in sorted(splits, key=lambda name: (min(_rank(split) for split in splits[name]), name)):
        alike[name.casefold()].append(name)
    result = {name: name for name in splits}
    for spellings in alike.values():
        if len(spellings) == 1:
            continue
        apart = sum(len(splits[name]) for name in spellings) == len(set().union(*(splits[name] for name in spellings)))
        layout.faults.append(("class_names_merged" if apart else "similar_class_names", " / ".join(spellings)))
        if apart:
            result.update(dict.fromkeys(spellings, spellings[0]))
    return result


def _rank(split: Split | None) -> int:
    return -1 if split is None else SPLITS.index(split)


def _empty_classes(known: set[Folder], wrapper: Folder, split_first: bool, common: int, classes: set[str]) -> list[str]:
    """Names of folders where a class would stand but no image does, nor in another split."""
    skip = len(wrapper) + split_first
    parents = {"/".join(name.split("/")[:n]).casefold() for name in classes for n in range(1, name.count("/") + 2)}
    empty = set()
    for folder in known:
        if folder[: len(wrapper)] != wrapper or len(folder) <= skip + common:
            continue
        if bool(split_of(folder[len(wrapper)])) != split_first:
            continue
        name = folder[skip + common :]
        inside_class = any("/".join(name[:n]) in classes for n in range(1, len(name)))
        if not inside_class and "/".join(name).casefold() not in parents:
            empty.add(name)
    inner = {name[:n] for name in empty for n in range(1, len(name))}
    return sorted(name for name in ("/".join(parts) for parts in empty - inner) if not _says_unlabelled(name))
