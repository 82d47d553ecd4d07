"""What an archive or an array file may ask for before we believe it.

A few kilobytes can be written so that they unpack to petabytes. Sizes are compared with these bounds
before anything is unpacked or allocated.
"""

from __future__ import annotations

from pathlib import Path

from softvq_cli.errors import InputError

MAX_MEMBERS = 2_000_000
"""Files in one folder or archive; ImageNet has 1.3 million."""
DOUBTED_MEMBERS = 100_000
"""From so many files on, a compressed archive must have four bytes for each."""
MAX_FILE_BYTES = 256 << 20
"""One image file, unpacked but still encoded."""
FREE_BYTES = 1 << 30
"""So much may be unpacked from anything, however small."""
MAX_EXPANSION = 400
"""Beyond that, unpacked bytes for each packed one: dSprites, nearly all black, needs 115; a bomb has 1000 and more."""


def check_count(where: Path, count: int, packed: int | None = None) -> None:
    """Refuse more than MAX_MEMBERS files, and sooner what has implausibly many for its ``packed`` bytes."""
    if packed is not None and count > DOUBTED_MEMBERS and packed < 4 * count:
        raise InputError(f"{where} has {packed} bytes for {count} files or more, as if made to fill a memory")
    if count > MAX_MEMBERS:
        raise InputError(f"{where} holds more than {MAX_MEMBERS} files; divide it into smaller data sets")


def check_file_size(where: Path, name: str, size: int) -> None:
    """Refuse an image file of more than MAX_FILE_BYTES."""
    if size > MAX_FILE_BYTES:
        raise InputError(f"{where}: {name} has {size} bytes, more than the {MAX_FILE_BYTES} an image file may have")


def check_expansion(where: Path, packed: int, unpacked: int) -> None:
    """Refuse what unpacks to implausibly much."""
    if unpacked > FREE_BYTES and unpacked > MAX_EXPANSION * packed:
        raise InputError(
            f"{where} has {packed} bytes and unpacks to at least {unpacked}, as if made to fill a disk; "
            "unpack it yourself if you trust it"
        )
