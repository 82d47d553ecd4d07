"""Rules for file names (splits, classes, hidden files, documents), and limits against decompression bombs."""

from __future__ import annotations

import mimetypes
import re
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal, get_args

from softvq_cli.errors import InputError, one_line

Role = Literal["train", "test", "validation"]
ROLES: tuple[Role, ...] = get_args(Role)
"""Splits in the order in which they are listed."""

_ROLES: dict[str, Role] = {
    **dict.fromkeys(("train", "training", "trn"), "train"),
    **dict.fromkeys(("test", "tests", "testing", "tst"), "test"),
    **dict.fromkeys(("val", "valid", "validation", "validate", "dev", "eval", "evaluation"), "validation"),
}
_FILLER = frozenset(
    (
        *("a", "x", "set", "sets", "split", "splits", "subset", "data", "dataset", "folder", "dir", "part", "fold"),
        *("file", "files", "image", "images", "img", "imgs", "photos", "pictures", "pics"),
        *("seg", "full", "small", "new", "final", "clean", "raw", "of"),
    )
)
"""Words that do not change the meaning of a split's name: ``train_set``, ``seg_train``."""
_GLUED = re.compile(r"(.+?)(?:set|sets|data|images?|imgs?)$")


def role_of(name: str, shared: frozenset[str] | set[str] = frozenset()) -> Role | None:
    """The split with this folder, file or value name: ``train``, ``Testing``, ``seg_val``, ``test2``.

    None if the name means nothing or more than a split: ``cat``, ``test_tube``. The words in ``shared`` are ignored.
    """
    words = [word for word in words_of(name) if word not in shared]
    roles = [role for word in words if (role := _role_of_word(word)) is not None]
    others = [word for word in words if _role_of_word(word) is None and word not in _FILLER]
    return roles[0] if len(roles) == 1 and not others else None


def roles_of(names: Iterable[str]) -> dict[str, Role | None]:
    """:func:`role_of` for related names; words common to all are ignored (``pets_train``, ``pets_test``)."""
    names = list(names)
    shared = set.intersection(*(set(words_of(name)) for name in names)) if len(names) > 1 else set()
    shared = {word for word in shared if _role_of_word(word) is None}
    return {name: role_of(name, shared) for name in names}


def split_in(name: str) -> Role | None:
    """The split that is one of the words of a name, ``train_cat``, ``leafTest``; None if there is none, or several."""
    roles = {role for word in words_of(name) if (role := _role_of_word(word)) is not None}
    return roles.pop() if len(roles) == 1 else None


def roles_of_files(names: Sequence[str]) -> list[Role | None]:
    """The split of each of several tables or archives, from its name or that of a parent folder.

    Of files with different splits, any word of the name may be the split: ``leaf-train`` and ``rose-test``.
    """
    paths = [[stem_of(name.rpartition("/")[2]), *reversed(name.split("/")[:-1])] for name in names]
    roles: list[Role | None] = [None] * len(names)
    for level in range(max(map(len, paths), default=0)):
        meaning = roles_of({path[level] for path in paths if len(path) > level})
        roles = [role or meaning.get("".join(path[level : level + 1])) for role, path in zip(roles, paths, strict=True)]
    among = [role or split_in(path[0]) for role, path in zip(roles, paths, strict=True)]
    return among if len({*among} - {None}) > 1 else roles


def differ(names: Sequence[str], roles: Sequence[Role | None]) -> bool:
    """Whether tables or archives of one split differ in more than numbers, as classes and configurations do."""
    kinds: dict[Role | None, set[frozenset[str]]] = {}
    for name, role in zip(names, roles, strict=True):
        folder, _, last = _CAMEL.sub(" ", stem_of(name)).lower().rpartition("/")
        words = [*re.findall(r"[^\W_]+", folder), *_WORD.findall(last)]  # a number may be the class of a folder
        kinds.setdefault(role, set()).add(frozenset(word for word in words if (_role_of_word(word) or word) != role))
    return any(len(rests) > 1 for rests in kinds.values())


def check_alike(path: Path, names: Sequence[str], roles: Sequence[Role | None]) -> None:
    """Refuse tables or archives that are pooled although they may be classes or configurations."""
    if differ(names, roles):
        raise InputError(
            f"{path}: the names of {shorten(names)} differ as those of classes or configurations do: give the path of "
            "one, or if they are parts of one set, name them alike, with numbers"
        )


_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])")
"""Where a word begins in ``leafTrain``."""
_WORD = re.compile(r"(?<![^\W_])([^\W\d_]+)\d*(?![^\W_])")
"""A word of a file's name, without its number; not a hash (``7f3a9c``)."""


def words_of(name: str) -> list[str]:
    """The words of a name, in lower case: ``trainCat_2`` → ``train``, ``cat``."""
    return re.findall("[a-z]+", _CAMEL.sub(" ", name).lower())


def _role_of_word(word: str) -> Role | None:
    glued = _GLUED.match(word)
    return _ROLES.get(word) or (_ROLES.get(glued[1]) if glued else None)


_ARCHIVED = re.compile(r"\.(?:tar|tgz|tbz2|txz|zip|parquet|arrow)(?![a-z])", re.IGNORECASE)
_NUMBERED = re.compile(r"(.*?)-?(\d+)-of-0*(\d+)(?!\d)")


def stem_of(name: str) -> str:
    """The name of a table or an archive without its suffix: ``train-000000.tar.gz`` → ``train-000000``."""
    return _ARCHIVED.split(name)[0]


def missing_parts(names: Iterable[str]) -> list[str]:
    """A line for each incomplete set of numbered files, ``train-00000-of-00003.parquet``."""
    parts: dict[tuple[str, int], set[str]] = {}
    for match in filter(None, map(_NUMBERED.search, names)):
        parts.setdefault((match[1], int(match[3])), set()).add(match[2])
    return [
        f"{name or 'the data'}: only {len(present)} of {count} files are here"
        for (name, count), present in parts.items()
        if len(present) < count
    ]


def same(name: str) -> str:
    """The name in a form for comparison: Unicode's NFC, because a Mac encodes ``é`` as two characters."""
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def shorten(names: Iterable[str], most: int = 3) -> str:
    """Format a few names for a message: ``a, b, c and 4 more``."""
    names = [one_line(name, 60) for name in names]
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f"{', '.join(names[:most])}{more}"


# ---- files of users and of systems

_LONGEST_NAME = 1024
_NO_TEXT = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
"""Control characters, and bytes in names that are not UTF-8."""
_JUNK = frozenset(
    (
        *("__macosx", "__pycache__", "@eadir", "#recycle", "lost+found", "$recycle.bin", "system volume information"),
        *("thumbs.db", "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini", "icon\r"),
    )
)
"""Files that systems create, in lower case; hidden names (``.DS_Store``, ``._*``) are ignored too."""
_TOOLS = frozenset((".ipynb_checkpoints", ".thumbnails", ".thumbs", ".git", ".cache", ".trash", ".trashes"))
"""Hidden folders of programs, whose images do not belong to the user's data."""
_DOCUMENT = re.compile(
    r"(readme|licen[cs]e|copying|citation|authors|changelog|notice|dataset_infos?)([._-].*)?"
    r"|metadata\.(csv|tsv|jsonl|parquet)|.*\.(md|md5|sha1|sha256|sha512|rst|bib|yml|yaml)|(md5|sha\d+|check)sums?(\.txt)?",
    re.IGNORECASE,
)
"""Files that accompany a data set and are not images."""
_IMAGE = (".dcm", ".dng", ".j2c", ".j2k", ".jp2", ".jpc", ".webp", ".avif", ".heic", ".heif", ".tga")
"""Suffixes of images that :mod:`mimetypes` does not know, in some versions or at all."""
USUAL = (".jpg", ".jpeg", ".png")
"""The most frequent suffixes, which need no further checks among 100 000 names."""


def is_metadata(name: str) -> bool:
    """Whether a file or folder with this name is hidden or was created by a system."""
    return name.startswith(".") or name.lower() in _JUNK


def is_hidden(name: str) -> bool:
    """Whether a file or folder with this name may have been hidden by a person instead of a program."""
    return name.startswith(".") and name.lower() not in _TOOLS


def is_image_name(name: str) -> bool:
    """Whether an ignored file looks like one of the user's images; ``._1.jpg``, from a Mac, does not."""
    kind = mimetypes.guess_type(name)[0] or ""
    return not name.startswith("._") and (kind.startswith("image/") or name.lower().endswith(_IMAGE))


def is_document(name: str) -> bool:
    """Whether this file only accompanies a data set."""
    if name.endswith(USUAL):
        return False
    return _DOCUMENT.fullmatch(name.rpartition("/")[2]) is not None and not is_image_name(name)


def check_text(path: Path, name: str) -> None:
    """Refuse a file name that cannot be written in one line of UTF-8."""
    if len(name) > _LONGEST_NAME or (not name.isprintable() and _NO_TEXT.search(name)):
        raise InputError(f"{path}: the file name {name[:200]!r} is too long or is not text; rename it")


# ---- limits against decompression bombs

MAX_MEMBERS = 2_000_000
"""Maximum number of files in one folder or archive; ImageNet has 1.3 million."""
DOUBTED_MEMBERS = 100_000
"""With more files, a compressed archive must have at least four bytes per file."""
MAX_FILE_BYTES = 256 << 20
"""Maximum size of one encoded image file."""
FREE_BYTES = 1 << 30
"""Up to this size, any file may be unpacked."""
MAX_EXPANSION = 400
"""Maximum ratio of unpacked to packed bytes above that. dSprites, mostly black, has 115; a bomb at least 1000."""


def check_count(where: Path, count: int, packed: int | None = None) -> None:
    """Refuse more than MAX_MEMBERS files, and fewer if that is implausible for ``packed`` bytes."""
    if packed is not None and count > DOUBTED_MEMBERS and packed < 4 * count:
        raise InputError(f"{where} has {packed} bytes for at least {count} files, as if made to fill the memory")
    if count > MAX_MEMBERS:
        raise InputError(f"{where} holds more than {MAX_MEMBERS} files; divide it into smaller data sets")


def check_file_size(where: Path, name: str, size: int) -> None:
    """Refuse an image file of more than MAX_FILE_BYTES."""
    if size > MAX_FILE_BYTES:
        limit = f"more than the {MAX_FILE_BYTES} that an image file may have"
        raise InputError(f"{where}: {name} has {size} bytes, {limit}")


def check_expansion(where: Path | str, packed: int, unpacked: int) -> None:
    """Refuse files with an implausible compression ratio."""
    if unpacked > FREE_BYTES and unpacked > MAX_EXPANSION * packed:
        raise InputError(
            f"{where} has {packed} bytes and unpacks to at least {unpacked}, as if made to fill the disk; "
            "unpack it yourself if you trust it"
        )
