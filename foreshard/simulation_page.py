"""A simulation's report as one HTML page that needs nothing beside it."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from foreshard.simulate.outcome import Outcome
from foreshard.simulation_plot import saturation_png, utilisation_png

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #22282e; max-width: 1080px; margin: 2em auto; padding: 0 1em; }
h1 { font-size: 1.5em; } h2 { font-size: 1.15em; margin-top: 2em; }
table { border-collapse: collapse; width: 100%; } th, td { padding: .3em .7em; text-align: right; }
th:first-child, td:first-child { text-align: left; } th { border-bottom: 2px solid #c9d1d9; font-weight: 600; }
td { border-bottom: 1px solid #e6eaee; } tr.ours td { background: #eaf2fb; font-weight: 600; }
img { width: 100%; height: auto; } .quiet { color: #5b6570; }
"""
COLUMNS = (
    ("saturated_shard_minutes", "saturated shard-minutes", "{:,.0f}"),
    ("saturated_share", "of all", "{:.2%}"),
    ("worst_utilisation", "worst utilisation", "{:.2f}"),
    ("latency_stretch_mean", "mean latency, in service times", "{:.2f}"),
    ("migrations", "migrations", "{:,}"),
    ("moves", "buckets moved", "{:,}"),
    ("moves_undone", "undone", "{:,}"),
    ("bytes", "moved", "bytes"),
    ("gap_closed", "gap closed", "{:.0%}"),
)


def simulation_page(
    title: str, summary: Mapping[str, Any], outcomes: Sequence[Outcome], notes: Sequence[str]
) -> str:
    """``summary`` as `comparison.summary` made it, ``outcomes``: one of each way, of one fleet."""
    threshold = summary["reactive_threshold"]
    rows = []
    for way, of in summary["ways"].items():
        name = f"{way} (above {threshold:.0%})" if way == "reactive" else way
        cells = "".join(f"<td>{_cell(of.get(key), form)}</td>" for key, _, form in COLUMNS)
        rows.append(
            f'<tr class="{"ours" if way == "predictive" else ""}"><td>{escape(name)}</td>{cells}</tr>'
        )
    heads = "".join(f"<th>{escape(head)}</th>" for _, head, _ in COLUMNS)
    first = outcomes[0]
    days = first.utilisation.shape[1] * first.step.total_seconds() / 86_400
    told = "".join(f"<li>{escape(note)}</li>" for note in notes)
    return f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title><style>{STYLE}</style></head><body>
<h1>{escape(title)}</h1>
<p>{days:.1f} days from {first.starts_at:%Y-%m-%d %H:%M} UTC, {len(first.shards)} shards, steps of
{first.step.total_seconds() / 60:.0f} minutes. A shard is saturated while any of its resources is asked for more than
there is; running copies are counted in.</p>
<table><tr><th>policy</th>{heads}</tr>{"".join(rows)}</table>
<p class="quiet">Gap closed: how much of what <em>oracle</em>, which knows the future, spares over <em>reactive</em>.
Reactive is shown with the best of its thresholds for this history. Undone: buckets that came back within 48 hours to a
shard they had left.</p>
<h2>Saturated shard-minutes</h2>{_image(saturation_png(outcomes), "Saturated shard-minutes by policy")}
<h2>Utilisation of each shard</h2>
<p class="quiet">The busiest resource of each. A tick below marks the end of a migration; red is above capacity.</p>
{_image(utilisation_png(outcomes), "Utilisation of each shard over time, by policy")}
{f"<h2>Notes</h2><ul>{told}</ul>" if told else ""}
</body></html>
"""


def _cell(value: Any, form: str) -> str:
    if value is None:
        return "–"
    return f"{value / 1e9:,.0f} GB" if form == "bytes" else form.format(value)


def _image(png: bytes, text: str) -> str:
    return f'<img alt="{escape(text)}" src="data:image/png;base64,{base64.b64encode(png).decode()}">'
