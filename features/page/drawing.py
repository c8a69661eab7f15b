"""A distribution as HTML: bars in an inline SVG with the numbers under it, or the most frequent words."""

from html import escape

from features.page.distribution import Numbers, Words

_WIDTH, _HEIGHT, _STRIP = 240, 40, 8  # of the bars, and of the strip of the quartiles below them
_GAP = 1.5  # between bars
_LEAST = 1.5  # a bin with one value among millions is seen, too


def short(value: float) -> str:
    """Return a number in few signs: 0.25, 1980, 12.3k, 4.1M."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if abs(value) >= max(size, 1e4):
            return f"{value / size:.3g}{unit}"
    return f"{value:.4g}" if abs(value) >= 1e3 else f"{value:.3g}"


def share(part: float) -> str:
    """Return a share as a percentage that is 0 or 100 only if it is so."""
    if part in {0.0, 1.0}:
        return f"{part:.0%}"
    if part < 0.001:
        return "< 0.1%"
    return "> 99.9%" if part > 0.999 else f"{part:.1%}"


def rail(part: float) -> str:
    """Return a bar that is filled to a share."""
    return f'<span class="rail"><i style="width:{part:.1%}"></i></span>'


def draw(distribution: Numbers | Words) -> str:
    """Return what is shown of a feature's distribution."""
    if distribution.rows == distribution.missing:
        return '<p class="none">No value in these rows.</p>'
    if isinstance(distribution, Words):
        return _words(distribution)
    return _numbers(distribution)


def _numbers(found: Numbers) -> str:
    quantiles = found.quantiles
    notes = []
    if found.lengths:
        notes.append("Length of the list.")
    if found.different is not None:
        notes.append(f"{found.different:,} different ids in all lists.")
    note = f'<p class="note">{" ".join(notes)}</p>' if notes else ""
    if quantiles[0] == quantiles[100]:
        where = " where there is a value" if found.missing else ""
        return f'<p class="note">Always <b>{short(quantiles[0])}</b>{where}</p>{note}'
    what = "length of the list" if found.lengths else "value"
    label = f"{what.capitalize()}: " + ", ".join(
        f"{name} {short(quantiles[q])}" for q, name in ((0, "least"), (25, "quarter"), (50, "median"), (75, "3/4"))
    )
    label += f", most {short(quantiles[100])}"
    ends = "".join(
        f"<span><b>{short(quantiles[q])}</b> {name}</span>" for q, name in ((0, "min"), (50, "median"), (100, "max"))
    )
    return f'{_svg(found, label)}<p class="ends">{ends}</p>{note}'


def _svg(found: Numbers, label: str) -> str:
    step = _WIDTH / len(found.bins)
    most = max(found.bins)
    bars = []
    for place, count in enumerate(found.bins):
        if count:
            height = max(count / most * _HEIGHT, _LEAST)
            width = step - _GAP
            bars.append(f"M{place * step:.4g} {_HEIGHT}v-{height:.3g}h{width:.4g}v{height:.3g}z")
    quarter, median, three = (_across(found, q) for q in (25, 50, 75))
    middle = _HEIGHT + _STRIP / 2 + 1
    box = f'<path class="box" d="M{quarter:.4g} {middle}H{max(three, quarter + 1):.4g}"/>'
    tick = f'<path class="tick" d="M{median:.4g} {middle - 3}v6"/>'
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT + _STRIP + 2}" preserveAspectRatio="none" role="img" '
        f'aria-label="{label}"><title>{label}</title><path class="floor" d="M0 {_HEIGHT}H{_WIDTH}"/>'
        f'<path class="bars" d="{"".join(bars)}"/>{box}{tick}</svg>'
    )


def _across(found: Numbers, hundredth: int) -> float:
    """Return where a quantile lies on the drawing."""
    low, high = found.bounds
    return (min(max(found.quantiles[hundredth], low), high) - low) / (high - low) * _WIDTH


def _words(found: Words) -> str:
    if found.top is None:
        return f'<p class="note"><b>{found.different:,}</b> different values. What they are is not shown.</p>'
    filled = found.rows - found.missing
    lines = [
        f'<li><span class="word">{escape(word)}</span>{rail(rows / filled)}<span>{share(rows / filled)}</span></li>'
        for word, rows in found.top
    ]
    left = found.different - len(found.top)
    more = f"and {left:,} other values" if left else f"{found.different:,} different values"
    return f'<ol class="words">{"".join(lines)}</ol><p class="note">{more}</p>'
