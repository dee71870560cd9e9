"""Byte-level byte-pair encoding: train a vocabulary, encode text, decode ids, read and write the files."""

from core.tokenizer.tokenizer import Tokenizer
from core.tokenizer.train import train_bpe

__all__ = ["Tokenizer", "train_bpe"]
