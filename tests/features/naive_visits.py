"""Visit features of one row, event by event: the oracle of `features/visits.py`, written from the descriptions."""

from dataclasses import dataclass
from itertools import pairwise
from math import cos, exp, floor, hypot, inf, log, nan, pi, sin, sqrt

DAY = 86_400  # seconds
HOUR = 3_600


@dataclass
class Visit:
    days_ago: float
    money: float
    lines: int


def visits_of(events: list[tuple[float, float]], now: float) -> list[Visit]:
    """`events` are (second, money), oldest first; a visit ends where more than eight hours follow without an event."""
    found: list[Visit] = []
    last = -inf
    for second, money in events:
        if second - last > 8 * HOUR:
            found.append(Visit((now - second) / DAY, 0.0, 0))
        found[-1].money += money
        found[-1].lines += 1
        last = second
    return found


def ratio(top: float, bottom: float) -> float:
    return nan if bottom == 0 or bottom != bottom else top / bottom


def mean(values: list[float], weights: list[float] | None = None) -> float:
    weights = [1.0] * len(values) if weights is None else weights
    return ratio(sum(w * v for w, v in zip(weights, values, strict=True)), sum(weights))


def at_share(values: list[float], share: float) -> float:
    return sorted(values)[floor(share * (len(values) - 1))] if values else nan


def per_week(visits: list[Visit], half_life: float, known: float, money: bool = False) -> float:
    total = sum(2 ** (-v.days_ago / half_life) * (v.money if money else 1) for v in visits)
    # The decayed weeks on record, by hand: steps of a thousandth of their length.
    length = max(known, 7.0)
    step = length / 4000
    weeks = sum(2 ** (-(k + 0.5) * step / half_life) * step for k in range(4000)) / 7
    return total / weeks


def covered(visits: list[Visit], half_life: float) -> float:
    """Over a fine grid of past moments: did a visit begin in the seven days after?"""
    if not visits or visits[0].days_ago <= 7:
        return nan
    oldest, hit, total = visits[0].days_ago, 0.0, 0.0
    steps = 4_000
    for k in range(steps):
        moment = 7 + (oldest - 7) * (k + 0.5) / steps
        weight = 2 ** (-moment / half_life)
        total += weight
        hit += weight * any(moment - 7 <= v.days_ago < moment for v in visits)
    return hit / total


def week_features(visits: list[Visit], known: float) -> dict[str, float]:
    on_record = int(min(max(known // 7, 1), 26))
    count = [sum(7 * k <= v.days_ago < 7 * (k + 1) for v in visits) for k in range(26)]
    came = [n > 0 for n in count]
    found = {f"weeks_{m}": mean([float(c) for c in came[: min(m, on_record)]]) for m in (4, 8, 26)}
    found |= {f"week_{k}": float(count[k - 1]) for k in (1, 2, 3, 4)}
    average = mean([float(n) for n in count[:on_record]])
    found["week_dispersion"] = ratio(mean([(n - average) ** 2 for n in count[:on_record]]), average)
    found["weeks_on"] = float(next((k for k in range(26) if not came[k]), 26))
    found["weeks_off"] = float(next((k for k in range(26) if came[k]), 26))
    after_one = [came[k] for k in range(25) if k + 1 < on_record and came[k + 1] == came[0]]
    found["after_such_week"] = (sum(after_one) + 2 * found["weeks_26"]) / (len(after_one) + 2)
    after_two = [came[k] for k in range(24) if k + 2 < on_record and came[k + 1] == came[0] and came[k + 2] == came[1]]
    found["after_such_weeks"] = (sum(after_two) + 2 * found["after_such_week"]) / (len(after_two) + 2)
    return found


def gap_features(visits: list[Visit], rate: float) -> dict[str, float]:
    gaps = [a.days_ago - b.days_ago for a, b in pairwise(visits)]
    ended = [v.days_ago for v in visits[1:]]
    age = visits[-1].days_ago if visits else nan
    logs = [log(g + 0.05) for g in gaps]
    average, log_average = mean(gaps), mean(logs)
    found = {f"gap_{k}": gaps[-k] if len(gaps) >= k else nan for k in (1, 2, 3)}
    found["gap_mean"] = average
    found["gap_mean_30d"] = mean(gaps, [2 ** (-e / 30) for e in ended])
    found["gap_deviation"] = sqrt(mean([(g - average) ** 2 for g in gaps])) if gaps else nan
    found["gap_median"], found["gap_long"] = at_share(gaps, 0.5), at_share(gaps, 0.9)
    found["log_gap_mean"] = log_average
    found["log_gap_deviation"] = sqrt(mean([(g - log_average) ** 2 for g in logs])) if gaps else nan
    found["age_to_median"] = ratio(age, found["gap_median"] + 0.05)
    found["age_to_long"] = ratio(age, found["gap_long"] + 0.05)
    found["age_score"] = (log(age + 0.05) - log_average) / (found["log_gap_deviation"] + 0.3) if gaps else nan
    for name, weights in (("hazard", [1.0] * len(gaps)), ("hazard_90d", [2 ** (-e / 90) for e in ended])):
        at_risk = sum(w for w, g in zip(weights, gaps, strict=True) if g > age)
        hit = sum(w for w, g in zip(weights, gaps, strict=True) if age < g <= age + 7)
        found[name] = (hit + 2 * (1 - exp(-rate))) / (at_risk + 2) if visits else nan
    found["longer_share"] = mean([float(g > age) for g in gaps])
    return found


def calendar_features(visits: list[Visit]) -> dict[str, float]:
    weights = [2 ** (-v.days_ago / 90) for v in visits]
    x = mean([cos(2 * pi * v.days_ago / 7) for v in visits], weights)
    y = mean([sin(2 * pi * v.days_ago / 7) for v in visits], weights)
    month = 365.25 / 12
    # The coming week, one, two … months ago: from k months ago to seven days later.
    coming = sum(any(k * month - 7 <= v.days_ago < k * month for k in range(1, 40)) for v in visits)
    share = (coming + 2 * 7 / month) / (len(visits) + 2)
    return {
        "weekday_strength": hypot(x, y),
        "weekday_cosine": x,
        "weekday_sine": y,
        "month_part": share / (7 / month),
    }


def naive_visit_features(events: list[tuple[float, str, float]], now: float) -> dict[str, float]:
    """Return the features of one row from its events, (second, name, money), oldest first."""
    known = (now - events[0][0]) / DAY if events else 0.0
    every = visits_of([(second, money) for second, _, money in events], now)
    buying = visits_of([(second, money) for second, name, money in events if name == "purchase"], now)
    rate = {h: per_week(buying, h, known) for h in (7, 14, 30, 90, 180, 365)}
    money = [v.money for v in buying]
    recent = mean(money, [2 ** (-v.days_ago / 30) for v in buying])
    spend = {h: per_week(buying, h, known, money=True) for h in (14, 30, 90)}
    found = {f"rate_{h}d": value for h, value in rate.items()}
    found |= {f"rate_trend_{a}d": ratio(rate[a], rate[b]) for a, b in ((7, 30), (30, 90), (90, 365))}
    found["days_since"] = buying[-1].days_ago if buying else nan
    found |= gap_features(buying, rate[90]) | week_features(buying, known) | calendar_features(buying)
    found |= {f"covered_{h}d": covered(buying, h) for h in (30, 90, 365)}
    found |= {
        "spend_mean": mean(money),
        "spend_mean_30d": recent,
        "spend_trend": ratio(recent, mean(money)),
        "spend_last": ratio(money[-1], mean(money)) if money else nan,
        **{f"spend_{h}d": value for h, value in spend.items()},
        "stock": ratio(spend[14], spend[90]),
        "lines_last": float(buying[-1].lines) if buying else nan,
        "lines_mean": mean([float(v.lines) for v in buying]),
    }
    gaps = [a.days_ago - b.days_ago for a, b in pairwise(every)]
    age = every[-1].days_ago if every else nan
    return {f"buy_{name}": value for name, value in found.items()} | {
        **{f"visit_rate_{h}d": per_week(every, h, known) for h in (7, 30, 90)},
        "visit_days_since": age,
        "visit_gap_median": at_share(gaps, 0.5),
        "visit_age_to_median": ratio(age, at_share(gaps, 0.5) + 0.05),
        "visits_since_buying": float(sum(not buying or v.days_ago < buying[-1].days_ago for v in every)),
        "visit_buying_share": ratio(len(buying), len(every)),
    }
