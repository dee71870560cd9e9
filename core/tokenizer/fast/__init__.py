"""The fast engine: the reference's results, to the byte, from compiled loops over bytes (Numba).

Nothing here is imported before it is used, so that `core.tokenizer` needs neither Numba nor NumPy.
"""
