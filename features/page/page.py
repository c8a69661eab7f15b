"""The catalogue as one HTML file that needs nothing else: a pure function of what it says."""

from collections.abc import Mapping
from datetime import UTC, datetime
from html import escape

from features.definitions import sentence
from features.page.content import Content, Feature, Section
from features.page.drawing import draw, rail, share
from features.page.look import SCRIPT, STYLE

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
_BARS = (
    "24 equal ranges from the 1st to the 99th hundredth of the values, with what lies outside in the outermost. Line "
    "beneath: the middle half; tick: the median. Of names you see the most frequent; ids, and whatever a person typed "
    "or told, are only counted."
)


def build_page(content: Content) -> str:
    """Return the page as HTML."""
    features = sum(len(one.features) for one in content.sections)
    index = "\n".join(
        f'<li><a href="#{one.name}">{one.name} <span>{len(one.features)}</span></a></li>' for one in content.sections
    )
    body = "\n".join(map(_section, content.sections))
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>ShopLens: features</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<style>{STYLE}</style></head>
<body><div class="shell">
<header>
<h1>Feature catalogue</h1>
<p class="lead">Everything the models and services know of users, items and moments. Bars: {_BARS}</p>
{_facts(content, features)}
</header>
<nav aria-label="Views">
<label><span class="hidden">Search</span>
<input id="search" type="search" placeholder="Search features" autocomplete="off"
title="Words of a name, a meaning or a view; / comes here, Escape empties it"></label>
<p id="found" role="status">{features} features</p>
<ul>
{index}
</ul>
</nav>
<main>
{body}
<p id="empty" class="none" hidden>No feature fits. Fewer or shorter words find more.</p>
</main>
</div>
<script>{SCRIPT}</script>
</body></html>
"""


def _facts(content: Content, features: int) -> str:
    dataset: Mapping[str, str] = content.dataset
    rows = sum(one.rows or 0 for one in content.sections)
    high_water = datetime.fromisoformat(dataset["high_water"]).astimezone(UTC)
    facts = {
        "Dataset": escape(dataset["source"]),
        "Known until": f"{high_water:%Y-%m-%d %H:%M:%S} UTC",
        "Views": str(len(content.sections)),
        "Features": str(features),
        "Rows in all tables": f"{rows:,}",
    }
    if "digest" in dataset:
        facts["Digest of the data"] = (
            f'<code title="{escape(dataset["digest"])}">{escape(dataset["digest"][:12])}</code>'
        )
    return f'<dl class="facts">{"".join(f"<div><dt>{k}</dt><dd>{v}</dd></div>" for k, v in facts.items())}</dl>'


def _section(one: Section) -> str:
    chips = [
        f"by <code>{', '.join(one.keys)}</code>" if one.keys else "",
        one.rhythm,
        "" if one.rows is None else f"{one.rows:,} rows",
        f"owner {escape(one.owner)}",
    ]
    marks = "".join(f"<span>{chip}</span>" for chip in chips if chip)
    marks += "<span>online</span>" if one.online else '<span class="off">not online</span>'
    shown = f'<p class="note">Distributions are of {one.shown}.</p>' if one.shown else ""
    rows = "\n".join(_feature(one, feature) for feature in one.features)
    return (
        f'<section id="{one.name}"><div class="about"><h2>{one.name}</h2><p>{escape(one.meaning)}</p>'
        f'<div class="chips">{marks}</div>{shown}</div>\n{rows}\n</section>'
    )


def _feature(section: Section, one: Feature) -> str:
    anchor = escape(f"{section.name}.{one.name}")
    facts = {"unit": one.unit, "window": one.window, "owner": one.owner}
    services = f'<p class="read">read by {", ".join(one.read_by)}</p>' if one.read_by else ""
    plain = "".join(f"<div><dt>{name}</dt><dd>{escape(text)}</dd></div>" for name, text in facts.items())
    picture = draw(one.drawn) if one.drawn else '<p class="none">Computed at the moment asked.</p>'
    text = escape(f"{one.name} {one.meaning} {section.name}")
    return (
        f'<article id="{anchor}" data-text="{text}"><div><h3><a href="#{anchor}">{escape(one.name)}</a></h3>'
        f'<p class="meaning">{escape(sentence(one.meaning))}</p>{services}</div><dl class="plain">{plain}</dl>'
        f"{_missing(section, one)}<div>{picture}</div></article>"
    )


def _missing(section: Section, one: Feature) -> str:
    if one.null_share is None:
        return "<div></div>"
    shares = {"missing": one.null_share}
    if section.snapshot and one.null_share_drawn is not None:
        shares["latest"] = one.null_share_drawn
    lines = "".join(f"<div>{name} <b>{share(part)}</b>{rail(part)}</div>" for name, part in shares.items())
    return f'<div class="missing">{lines}</div>'
