"""The oracles: byte-pair encoding as one would write it on a blackboard, sharing no code with core."""

from collections import Counter
from itertools import pairwise

import regex

GPT2 = regex.compile(r"""'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+""")


def naive_split(text, specials):
    """(is special, piece) in order: the longest special token that starts at each place, from left to right."""
    pieces, place, start = [], 0, 0
    while place < len(text):
        fitting = [special for special in specials if text.startswith(special, place)]
        if fitting:
            longest = max(fitting, key=len)
            pieces += [(False, text[start:place]), (True, longest)]
            place = start = place + len(longest)
        else:
            place += 1
    return [(special, piece) for special, piece in [*pieces, (False, text[start:])] if piece]


def naive_words(text, specials):
    return [word for special, piece in naive_split(text, specials) if not special for word in GPT2.findall(piece)]


def naive_train(text, vocab_size, specials=()):
    tokens = [bytes([value]) for value in range(256)] + [special.encode() for special in specials]
    words = [[bytes([value]) for value in word.encode()] for word in naive_words(text, specials)]
    merges = []
    while len(tokens) < vocab_size:
        pairs = Counter(pair for word in words for pair in pairwise(word))
        if not pairs:
            break
        best = max(pairs, key=lambda pair: (pairs[pair], pair))
        merges.append(best)
        tokens.append(best[0] + best[1])
        words = [_merge_all(word, best) for word in words]
    return dict(enumerate(tokens)), merges


def _merge_all(word, pair):
    merged, place = [], 0
    while place < len(word):
        if tuple(word[place : place + 2]) == pair:
            merged.append(pair[0] + pair[1])
            place += 2
        else:
            merged.append(word[place])
            place += 1
    return merged


def naive_encode(text, vocab, merges, specials=()):
    """Again and again the pair of the lowest rank, the leftmost of them, one at a time."""
    ids = {}
    for token_id in sorted(vocab, reverse=True):
        ids[vocab[token_id]] = token_id
    encoded = []
    for special, piece in naive_split(text, specials):
        if special:
            encoded.append(ids[piece.encode()])
            continue
        for word in GPT2.findall(piece):
            symbols = [bytes([value]) for value in word.encode()]
            while True:
                ranked = [(merges.index(pair), at) for at, pair in enumerate(pairwise(symbols)) if pair in merges]
                if not ranked:
                    break
                _, at = min(ranked)
                symbols[at : at + 2] = [symbols[at] + symbols[at + 1]]
            encoded += [ids[symbol] for symbol in symbols]
    return encoded
