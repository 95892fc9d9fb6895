"""The kinds of panels of the dashboard."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from grafana_foundation_sdk.builders import bargauge, common, stat, statetimeline, timeseries
from grafana_foundation_sdk.builders import dashboard as build
from grafana_foundation_sdk.builders import prometheus as query
from grafana_foundation_sdk.builders import table as tables
from grafana_foundation_sdk.models.common import (
    BigValueColorMode,
    BigValueGraphMode,
    LegendDisplayMode,
    LegendPlacement,
    VisibilityMode,
    VizOrientation,
)
from grafana_foundation_sdk.models.dashboard import (
    DataTransformerConfig,
    DynamicConfigValue,
    Threshold,
    ThresholdsMode,
    ValueMap,
    ValueMappingResult,
)
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from foreshard.metrics.samples import STAGES
from foreshard.migration.lifecycle import Stage

Panel: TypeAlias = timeseries.Panel | stat.Panel | bargauge.Panel | tables.Panel | statetimeline.Panel

CAPACITY: list[tuple[float | None, str]] = [(None, "green"), (0.7, "yellow"), (0.85, "orange"), (1.0, "red")]
GOOD_BAD: list[tuple[float | None, str]] = [(None, "green"), (1.0, "orange")]
GONE: list[tuple[float | None, str]] = [(None, "red"), (1.0, "green")]

HEIGHT, SMALL = 8, 4

_COLOURS = {Stage.CUTOVER: "purple", Stage.SOAK: "green", Stage.ABORTING: "orange", Stage.REVERSING: "red"}


@dataclass(frozen=True)
class Query:
    """One expression, and what its series are called."""

    expr: str
    legend: str


def _thresholds(steps: Sequence[tuple[float | None, str]]) -> build.ThresholdsConfig:
    made = [Threshold(value=value, color=colour) for value, colour in steps]
    return build.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(made)


def _range(one: Query) -> query.Dataquery:
    return query.Dataquery().expr(one.expr).legend_format(one.legend or "__auto").range()


def _instant(one: Query) -> query.Dataquery:
    return query.Dataquery().expr(one.expr).legend_format(one.legend or "__auto").instant()


def numbers(
    title: str,
    queries: Sequence[Query],
    width: int,
    steps: Sequence[tuple[float | None, str]] = ((None, "blue"),),
    text: str = "",
    unit: str = "short",
) -> stat.Panel:
    """Big numbers of now."""
    made = stat.Panel().title(title).description(text).span(width).height(SMALL).unit(unit)
    made = (
        made.thresholds(_thresholds(steps))
        .color_mode(BigValueColorMode.VALUE)
        .graph_mode(BigValueGraphMode.NONE)
    )
    made = made.reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]).values(False).fields(""))
    return made.targets([_instant(one) for one in queries]).no_value("-")


def shares(title: str, queries: Sequence[Query], width: int) -> bargauge.Panel:
    """Horizontal bars from nothing to the whole."""
    made = bargauge.Panel().title(title).span(width).height(HEIGHT).unit("percentunit").min(0).max(1.2)
    made = made.thresholds(_thresholds(CAPACITY)).orientation(VizOrientation.HORIZONTAL).no_value("-")
    made = made.reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]).values(False).fields(""))
    return made.targets([_instant(one) for one in queries])


def lines(
    title: str,
    queries: Sequence[Query],
    width: int,
    *,
    unit: str = "short",
    text: str = "",
    band: bool = False,
) -> timeseries.Panel:
    """Lines over time. ``band``: of series that end in ``forecast .05`` to ``.95`` the area between is filled."""
    made = timeseries.Panel().title(title).description(text).span(width).height(HEIGHT).unit(unit).min(0)
    made = made.legend(
        common.VizLegendOptions()
        .display_mode(LegendDisplayMode.LIST)
        .placement(LegendPlacement.BOTTOM)
        .show_legend(True)
    )
    made = made.show_points(VisibilityMode.NEVER).line_width(1).targets([_range(one) for one in queries])
    if not band:
        return made
    thin = [DynamicConfigValue("custom.lineWidth", 0), DynamicConfigValue("custom.fillOpacity", 15)]
    red = DynamicConfigValue("color", {"mode": "fixed", "fixedColor": "red"})
    dashed = DynamicConfigValue("custom.lineStyle", {"fill": "dash", "dash": [8, 8]})
    return (
        made.override_by_regexp("/forecast 0\\.(05|95)$/", thin)
        .override_by_regexp("/forecast 0\\.5$/", [dashed])
        .override_by_name("capacity", [red, DynamicConfigValue("custom.lineWidth", 2)])
    )


def table(
    title: str, queries: Sequence[Query], width: int, text: str, unit: str = "percentunit"
) -> tables.Panel:
    """A row for each series, a column for each query: joined by their labels."""
    made = tables.Panel().title(title).description(text).span(width).height(HEIGHT).unit(unit).no_value("-")
    made = made.targets(
        [_instant(one).format(PromQueryFormat.TABLE).ref_id(chr(65 + at)) for at, one in enumerate(queries)]
    )
    hidden = dict.fromkeys(["Time", "__name__", "instance", "job"], True)
    named = {
        ("Value" if len(queries) == 1 else f"Value #{chr(65 + at)}"): one.legend
        for at, one in enumerate(queries)
    }
    return made.with_transformation(DataTransformerConfig(id_val="merge", options={})).with_transformation(
        DataTransformerConfig(id_val="organize", options={"excludeByName": hidden, "renameByName": named})
    )


def stages(title: str, queries: Sequence[Query], width: int) -> statetimeline.Panel:
    """Which stage each migration was in, over time."""
    named = {
        str(number): ValueMappingResult(text=stage.value.replace("_", " "), color=_COLOURS.get(stage, "blue"))
        for stage, number in STAGES.items()
    }
    made = statetimeline.Panel().title(title).span(width).height(HEIGHT).mappings([ValueMap(options=named)])
    return made.show_value(VisibilityMode.AUTO).merge_values(True).targets([_range(one) for one in queries])
