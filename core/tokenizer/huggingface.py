"""Hugging Face's `tokenizer.json`: byte-level BPE, written for the library `tokenizers` and read from it."""

import os
from typing import Any, NoReturn

from core.files import read_json, write_json
from core.tokenizer.formats import byte_to_character, restore_bytes, spell, unspell
from core.tokenizer.pretokenize import (
    CL100K_PATTERN,
    GPT2_PATTERN,
    pre_token_pattern,
    special_pattern,
    split_specials,
)
from core.tokenizer.tokenizer import Tokenizer

_BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}

# Possessive quantifiers are left out: their library reads {1,3}+ as one or more times one to three, others know none.
_CL100K_SPLIT = (
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s+(?![\s\S])|\s*[\r\n]|\s+(?!\S)|\s"
)

_SPELLED = set(byte_to_character().values())

_SPLITS = {
    GPT2_PATTERN: "gpt2",
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+": "gpt2",
    r"'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s": "gpt2",
    _CL100K_SPLIT: "cl100k",
    CL100K_PATTERN.replace("{1,3}+", "{1,3}"): "cl100k",
}
"""Regular expressions that cut text alike in Hugging Face's library as ours of that name do here."""


def write_huggingface(path: str | os.PathLike[str], tokenizer: Tokenizer) -> None:
    """Write `tokenizer.json`, which `tokenizers.Tokenizer.from_file` loads.

    Its ids are ours but for characters so new that its regular expressions do not know them yet (`tokenizers` 0.23
    beside `regex` 2026.11: 17,144 letters and 336 numbers, which it takes for signs). Ids that encoding never gives are
    left out: those whose bytes a lower id spells, and that of a visible byte that is also a special token with another.

    Args:
        path: File to write.
        tokenizer: Its special tokens are written as added tokens and, so that they keep their ids, in the vocabulary.

    Raises:
        ValueError: For a special token that reads as spelled bytes (`é` is their spelling of the byte 0xE9), or a merge
            that occurs twice (the later one would count there).
    """
    for token in tokenizer.special_tokens:
        if unspell(token) != token.encode():
            raise ValueError(f"special token {token!r}: tokenizer.json takes it for the bytes {unspell(token)!r}")
    repeated = _repeated(tokenizer.merges)
    if repeated is not None:
        raise ValueError(f"merge {repeated} {tokenizer.merges[repeated]}: it occurs twice")
    pre_tokenizer: dict[str, Any] = _BYTE_LEVEL
    if tokenizer.pattern != "gpt2":
        split = {"type": "Split", "pattern": {"Regex": _CL100K_SPLIT}, "behavior": "Isolated", "invert": False}
        pre_tokenizer = {"type": "Sequence", "pretokenizers": [split, _BYTE_LEVEL | {"use_regex": False}]}
    document = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [_added_token(tokenizer.special_id(token), token) for token in tokenizer.special_tokens],
        "normalizer": None,
        "pre_tokenizer": pre_tokenizer,
        "post_processor": None,
        "decoder": _BYTE_LEVEL,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": _spelled_vocab(tokenizer),
            "merges": [[spell(left), spell(right)] for left, right in tokenizer.merges],
        },
    }
    write_json(path, document)


def read_huggingface(path: str | os.PathLike[str]) -> Tokenizer:
    """Read a `tokenizer.json` whose ids we can give.

    That is byte-level BPE with GPT-2's pattern or cl100k's. Added tokens become special tokens. cl100k's is the pattern
    of tiktoken today; the older one of many files (Llama 3's among them) cuts white space at the end of a text
    otherwise, and is refused like every other.

    Raises:
        ValueError: If the file is missing or damaged, or asks for something else; names the field and its value.
    """
    document = read_json(path)
    model = document.get("model") if isinstance(document, dict) else None
    if not isinstance(model, dict):
        raise ValueError(f"{path}: not a tokenizer.json (an object with a model)")
    if model.get("type", "BPE") != "BPE" or "merges" not in model:
        _refuse(path, "model.type", model.get("type"), "only BPE is read")
    for field in ("normalizer", "truncation", "padding"):
        if document.get(field) is not None:
            _refuse(path, field, document[field], "only null is read")
    if document.get("post_processor") is not None and _type(document["post_processor"]) != "ByteLevel":
        _refuse(path, "post_processor", document["post_processor"], "only null and ByteLevel add no tokens")
    if _type(document.get("decoder")) != "ByteLevel":
        _refuse(path, "decoder", document.get("decoder"), "only ByteLevel is read")
    for field in ("dropout", "byte_fallback", "continuing_subword_prefix", "end_of_word_suffix"):
        if model.get(field):
            _refuse(path, f"model.{field}", model[field], "nothing else than its absence is read")

    pattern = _pattern(path, document.get("pre_tokenizer"))
    special_ids = _special_ids(path, document.get("added_tokens") or [], model)
    try:
        tokenizer = Tokenizer(
            _read_vocab(path, model, special_ids), _read_merges(path, model), list(special_ids), pattern=pattern
        )
    except ValueError as error:
        raise ValueError(f"{path}: {str(error).removeprefix(f'{path}: ')}") from None
    for token, token_id in special_ids.items():
        if tokenizer.special_id(token) != token_id:
            _refuse(path, f"the id of added token {token!r}", token_id, f"{tokenizer.special_id(token)} spells it too")
    if model.get("ignore_merges"):
        _check_ignored_merges(path, tokenizer)
    return tokenizer


def _spelled_vocab(tokenizer: Tokenizer) -> dict[str, int]:
    """Token to id: special tokens as they are, the others spelled; of ids that spell the same bytes the lowest."""
    ids = {token: tokenizer.special_id(token) for token in tokenizer.special_tokens}
    special_ids = set(ids.values())
    lowest: dict[bytes, int] = {}
    for token_id in sorted(tokenizer.vocab):
        lowest.setdefault(tokenizer.vocab[token_id], token_id)
        if token_id not in special_ids:
            ids.setdefault(spell(tokenizer.vocab[token_id]), token_id)
    needed = [bytes([value]) for value in range(256)]
    needed += [token for left, right in tokenizer.merges for token in (left, right, left + right)]
    for token in needed:  # also where only a special token spells it
        ids.setdefault(spell(token), lowest[token])
    return dict(sorted(ids.items(), key=lambda item: item[1]))


def _added_token(token_id: int | None, content: str) -> dict[str, Any]:
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    return {"id": token_id, "content": content, **flags}


def _refuse(path: str | os.PathLike[str], field: str, value: Any, wanted: str) -> NoReturn:
    shown = repr(value)
    raise ValueError(f"{path}: {field} is {shown if len(shown) <= 200 else shown[:197] + '...'}: {wanted}")


def _type(value: Any) -> str | None:
    return value.get("type") if isinstance(value, dict) else None


def _pattern(path: str | os.PathLike[str], pre_tokenizer: Any) -> str:
    """The name of the pattern that a pre-tokenizer stands for."""
    parts = pre_tokenizer.get("pretokenizers") if _type(pre_tokenizer) == "Sequence" else [pre_tokenizer]
    types = [_type(part) for part in parts] if isinstance(parts, list) else []
    if types not in (["ByteLevel"], ["Split", "ByteLevel"]):
        _refuse(path, "pre_tokenizer", pre_tokenizer, "only ByteLevel, or Split and then ByteLevel, is read")
    byte_level = parts[-1]
    if byte_level.get("add_prefix_space") is not False:
        _refuse(path, "pre_tokenizer's add_prefix_space", byte_level.get("add_prefix_space"), "only false is read")
    use_regex = byte_level.get("use_regex", True)
    if use_regex is not (len(parts) == 1):
        _refuse(path, "pre_tokenizer's use_regex", use_regex, "true without a Split before it, false after one")
    if len(parts) == 1:
        return "gpt2"
    split = parts[0]
    behavior, invert = split.get("behavior"), split.get("invert")
    if behavior != "Isolated" and (behavior, invert) != ("Removed", True):  # a pattern leaves nothing between matches
        _refuse(path, "pre_tokenizer's behavior", behavior, "only Isolated is read, or Removed where invert is true")
    expression = split["pattern"].get("Regex") if isinstance(split.get("pattern"), dict) else None
    if not isinstance(expression, str) or expression not in _SPLITS:
        _refuse(path, "pre_tokenizer's pattern", split.get("pattern"), "neither GPT-2's nor cl100k's")
    return _SPLITS[expression]


def _special_ids(path: str | os.PathLike[str], added_tokens: Any, model: dict[str, Any]) -> dict[str, int]:
    """Added token to id, in the order of the file."""
    ids: dict[str, int] = {}
    vocab = model.get("vocab")
    if not isinstance(added_tokens, list) or not isinstance(vocab, dict):
        raise ValueError(f"{path}: added_tokens must be a list and model.vocab an object")
    for place, token in enumerate(added_tokens):
        content = token.get("content") if isinstance(token, dict) else None
        if not isinstance(content, str) or unspell(content) != content.encode():
            _refuse(path, f"added token {place}", token, "text was expected that does not spell other bytes")
        for flag in ("single_word", "lstrip", "rstrip"):
            if token.get(flag):
                _refuse(path, f"{flag} of added token {content!r}", token[flag], "only false is read")
        if token.get("normalized") != added_tokens[0].get("normalized"):
            _refuse(path, f"normalized of added token {content!r}", token.get("normalized"), "unlike the first one's")
        # Their library asks the model for the id, and gives the next one to a token that the model lacks.
        following = max([len(vocab), *(token_id + 1 for token_id in ids.values())])
        if token.get("id") != vocab.get(content, following):
            wanted = f"Hugging Face's library would give it {vocab.get(content, following)}"
            _refuse(path, f"the id of added token {content!r}", token.get("id"), wanted)
        ids[content] = token["id"]
    return ids


def _read_vocab(path: str | os.PathLike[str], model: dict[str, Any], special_ids: dict[str, int]) -> dict[int, bytes]:
    vocab: dict[int, bytes] = {}
    for token, token_id in {**model["vocab"], **special_ids}.items():
        if type(token_id) is not int or token_id < 0:
            _refuse(path, f"model.vocab's {token!r}", token_id, "an id was expected")
        value = token.encode() if token in special_ids else _read_spelling(path, token)
        if vocab.setdefault(token_id, value) != value:
            _refuse(path, f"id {token_id}", token, f"it is also that of {spell(vocab[token_id])!r}")
    restore_bytes(vocab, [ord(token) for token in special_ids if len(token.encode()) == 1])
    return vocab


def _read_merges(path: str | os.PathLike[str], model: dict[str, Any]) -> list[tuple[bytes, bytes]]:
    merges: list[tuple[bytes, bytes]] = []
    if not isinstance(model["merges"], list):
        _refuse(path, "model.merges", model["merges"], "a list was expected")
    for rank, merge in enumerate(model["merges"]):
        pair = merge.split(" ") if isinstance(merge, str) else merge
        if not isinstance(pair, list) or len(pair) != 2 or not all(isinstance(part, str) and part for part in pair):
            _refuse(path, f"merge {rank}", merge, "two tokens were expected")
        merges.append((_read_spelling(path, pair[0]), _read_spelling(path, pair[1])))
    repeated = _repeated(merges)
    if repeated is not None:
        _refuse(path, f"merge {repeated}", model["merges"][repeated], "it occurs twice")
    return merges


def _read_spelling(path: str | os.PathLike[str], token: str) -> bytes:
    if not token or not set(token) <= _SPELLED:
        _refuse(path, "model.vocab's token", token, "no spelling of bytes, and no added token")
    return unspell(token)


def _repeated(merges: list[tuple[bytes, bytes]]) -> int | None:
    """The place of the first merge that occurred before."""
    seen = set()
    for place, merge in enumerate(merges):
        if merge in seen:
            return place
        seen.add(merge)
    return None


def _check_ignored_merges(path: str | os.PathLike[str], tokenizer: Tokenizer) -> None:
    """Raise ValueError if a pre-token in the vocabulary is not what the merges make of its bytes."""
    special_ids = {tokenizer.special_id(token) for token in tokenizer.special_tokens}
    specials = special_pattern(tokenizer.special_tokens)
    for token_id, token in tokenizer.vocab.items():
        try:
            text = token.decode()
        except UnicodeDecodeError:  # a part of a character is never a pre-token
            continue
        whole = pre_token_pattern(tokenizer.pattern).findall(text) == [text]
        if token_id in special_ids or not whole or len(split_specials(text, specials)) > 1:
            continue
        if tokenizer.encode(text) != [token_id]:
            _refuse(path, "model.ignore_merges", True, f"the merges make {tokenizer.encode(text)} of {text!r}, not id")
