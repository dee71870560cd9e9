"""A tokenizer from files as a page gets them: names and contents."""

import tempfile
from collections.abc import Mapping
from pathlib import Path

from core.tokenizer.huggingface import read_huggingface
from core.tokenizer.tokenizer import FILES, Tokenizer

_ALIASES = {"encoder.json": "vocab.json", "vocab.bpe": "merges.txt"}  # as OpenAI published GPT-2's


def read_uploaded(files: Mapping[str, bytes]) -> Tokenizer:
    """Read Hugging Face's `tokenizer.json`, or `vocab.json` and `merges.txt` with what `Tokenizer.save` adds.

    Raises:
        ValueError: For other files, too few of them, or damaged ones.
    """
    files = {_ALIASES.get(name, name): content for name, content in files.items()}
    single = set(files) == {"tokenizer.json"}
    wrong = [name for name in files if name not in FILES and not single]
    missing = [name for name in FILES[:2] if name not in files and not single]
    if wrong or missing:
        given = ", ".join(sorted(files)) or "none"
        told = f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing"
        if wrong:
            told = f"{' and '.join(sorted(wrong))} {'does' if len(wrong) == 1 else 'do'} not belong"
        raise ValueError(
            f"files are {given}: {told}; choose tokenizer.json alone, or vocab.json and merges.txt together (perhaps "
            f"with {' and '.join(FILES[2:])})"
        )
    with tempfile.TemporaryDirectory() as folder:
        for name, content in files.items():
            (Path(folder) / name).write_bytes(content)
        try:
            return read_huggingface(Path(folder) / "tokenizer.json") if single else Tokenizer.load(folder)
        except ValueError as error:
            raise ValueError(str(error).replace(f"{folder}/", "")) from None
