"""Numbers for people: exact integers stay in the tables' cells, these stand where space is short."""


def count(number: float, unit: str = "") -> str:
    """Three digits and an SI prefix; what rounds to 1000 of one is 1 of the next.

    >>> count(22_696_448), count(291_648_307_200, "FLOP"), count(12)
    ('22.7 M', '292 GFLOP', '12')
    >>> count(999_499), count(999_500)
    ('999 k', '1.00 M')
    """
    size = abs(number)
    for prefix, power in zip("YZEPTGMk", range(8, 0, -1), strict=True):
        factor = 1000**power
        if size >= 0.9995 * factor:
            return f"{_three_digits(number / factor)} {prefix}{unit}"
    text = f"{number:,}" if isinstance(number, int) else f"{number:.3g}"
    return f"{text} {unit}".rstrip()


def bytes_text(number: float) -> str:
    """Three digits and a binary prefix; what rounds to 1024 of one is 1 of the next.

    >>> bytes_text(80 * 2**30), bytes_text(1536), bytes_text(7)
    ('80.0 GiB', '1.50 KiB', '7 B')
    """
    size = abs(number)
    for prefix, power in (("PiB", 50), ("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)):
        if size >= 1023.5 * 2 ** (power - 10):
            return f"{_three_digits(number / 2**power)} {prefix}"
    return f"{number:,.0f} B"


def duration(seconds: float) -> str:
    """Time in the unit that suits it.

    >>> duration(0.0042), duration(90.0), duration(4886.2 * 86400)
    ('4.20 ms', '1.5 minutes', '4,886 days')
    """
    # Each from where the unit below would round to as much.
    for unit, length, least in (("days", 86_400, 86_220), ("hours", 3600, 3597), ("minutes", 60, 59.95)):
        if seconds >= least:
            value = seconds / length
            return f"{value:,.0f} {unit}" if value >= 99.95 else f"{value:.1f} {unit}"
    for unit, length in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6), ("ns", 1e-9)):
        if seconds >= 0.9995 * length:
            return f"{_three_digits(seconds / length)} {unit}"
    return f"{seconds:.3g} s"


def _three_digits(number: float) -> str:
    size = abs(number)
    if size >= 99.95:
        return f"{number:,.0f}"
    return f"{number:.1f}" if size >= 9.995 else f"{number:.2f}"
