"""GPT-2's files: `vocab.json` (token to id) and `merges.txt` (a pair a line), bytes spelled as visible characters."""

import os
from collections.abc import Collection, Iterable
from functools import cache
from pathlib import Path

from core.files import read_json, write_json, write_text

HEADER = "#version: 0.2"


@cache
def byte_to_character() -> dict[int, str]:
    """GPT-2's spelling: printable bytes stand for themselves, the other 68 for U+0100 onwards.

    A constant table (cached, never changed), so that a token of any bytes is a word without spaces.
    """
    visible = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    spelling = {byte: chr(byte) for byte in visible}
    hidden = [byte for byte in range(256) if byte not in spelling]
    return spelling | {byte: chr(256 + place) for place, byte in enumerate(hidden)}


@cache
def _character_to_byte() -> dict[str, int]:
    return {character: byte for byte, character in byte_to_character().items()}


def spell(token: bytes) -> str:
    """A token's bytes as visible characters.

    >>> spell(b" the")
    'Ġthe'
    """
    return token.decode("latin-1").translate(byte_to_character())


def unspell(text: str) -> bytes:
    """The bytes of a spelled token; text with characters outside the spelling stands for its own UTF-8."""
    try:
        return bytes([_character_to_byte()[character] for character in text])
    except KeyError:
        return text.encode()


def gpt2_paths(folder: str | os.PathLike[str]) -> tuple[Path, Path]:
    """The two files in a folder: `vocab.json` and `merges.txt`, or `encoder.json` and `vocab.bpe` as GPT-2 came."""
    folder = Path(folder)
    if (folder / "encoder.json").exists() and (folder / "vocab.bpe").exists():
        return folder / "encoder.json", folder / "vocab.bpe"
    return folder / "vocab.json", folder / "merges.txt"


def write_vocab(path: str | os.PathLike[str], vocab: dict[int, bytes], special_ids: Collection[int] = ()) -> None:
    """Write `vocab.json`. Of ids that spell the same bytes a special token's stands, else the lowest."""
    ids: dict[str, int] = {}
    for token_id in sorted(vocab, key=lambda token_id: (token_id not in special_ids, token_id)):
        ids.setdefault(spell(vocab[token_id]), token_id)
    write_json(path, dict(sorted(ids.items(), key=lambda item: item[1])))


def read_vocab(path: str | os.PathLike[str]) -> dict[int, bytes]:
    """Read `vocab.json`.

    A byte that a special token spells has lost its entry to it; where the bytes' values are their ids it gets it back.

    Raises:
        ValueError: If the file is missing or is not an object of token spellings to distinct, non-negative ids.
    """
    ids = read_json(path)
    if not isinstance(ids, dict) or not all(type(value) is int and value >= 0 for value in ids.values()):
        raise ValueError(f"{path}: not a vocabulary (an object that maps each token to its id)")
    vocab = {token_id: unspell(token) for token, token_id in ids.items()}
    if len(vocab) != len(ids):
        raise ValueError(f"{path}: {len(ids) - len(vocab)} tokens share an id with another")
    restore_bytes(vocab, range(0x80))
    return vocab


def restore_bytes(vocab: dict[int, bytes], values: Iterable[int]) -> None:
    """Give ASCII bytes whose entries special tokens took their own ids back, if the bytes' values are their ids."""
    if all(vocab.get(value) == bytes([value]) for value in range(0x80, 0x100)):  # alone no text, so never special
        for value in values:
            vocab.setdefault(value, bytes([value]))


def write_merges(path: str | os.PathLike[str], merges: list[tuple[bytes, bytes]]) -> None:
    """Write `merges.txt`, in the order the merges were made."""
    write_text(path, "\n".join([HEADER, *(f"{spell(left)} {spell(right)}" for left, right in merges)]) + "\n")


def read_merges(path: str | os.PathLike[str]) -> list[tuple[bytes, bytes]]:
    """Read `merges.txt`.

    Raises:
        ValueError: If the file is missing, not UTF-8, or a line is not two tokens with a space between.
    """
    try:
        lines = Path(path).read_bytes().decode().split("\n")
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8 at byte {error.start}") from None
    merges = []
    for number, line in enumerate(lines, start=1):
        line = line.removesuffix("\r")
        if not line or (number == 1 and line.startswith("#version")):
            continue
        pair = line.split(" ")
        if len(pair) != 2 or not all(pair):
            raise ValueError(f"{path}: line {number} is {line[:60]!r}: two tokens with a space between were expected")
        merges.append((unspell(pair[0]), unspell(pair[1])))
    return merges
