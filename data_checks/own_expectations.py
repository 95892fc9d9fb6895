"""Which of Great Expectations' expectations a team's own suite may hold: those that read one table, on PostgreSQL.

Each of them builds its statements from names of columns and from bound values. None takes SQL, so that no file can do
more than read in our session. A class of one's own is left out: where it is not imported, Great Expectations drops it
from a suite without a word. `tests/integration/test_own_suites.py` evaluates every one, and holds both tables here
against the installed version.
"""

from __future__ import annotations

from collections.abc import Mapping

ACCEPTED = frozenset(
    {
        "expect_column_distinct_values_to_be_in_set",
        "expect_column_distinct_values_to_contain_set",
        "expect_column_distinct_values_to_equal_set",
        "expect_column_kl_divergence_to_be_less_than",
        "expect_column_max_to_be_between",
        "expect_column_mean_to_be_between",
        "expect_column_median_to_be_between",
        "expect_column_min_to_be_between",
        "expect_column_most_common_value_to_be_in_set",
        "expect_column_pair_values_a_to_be_greater_than_b",
        "expect_column_pair_values_to_be_equal",
        "expect_column_pair_values_to_be_in_set",
        "expect_column_proportion_of_non_null_values_to_be_between",
        "expect_column_proportion_of_unique_values_to_be_between",
        "expect_column_quantile_values_to_be_between",
        "expect_column_stdev_to_be_between",
        "expect_column_sum_to_be_between",
        "expect_column_to_exist",
        "expect_column_type_to_be",
        "expect_column_unique_value_count_to_be_between",
        "expect_column_value_lengths_to_be_between",
        "expect_column_value_lengths_to_equal",
        "expect_column_value_z_scores_to_be_less_than",
        "expect_column_values_to_be_between",
        "expect_column_values_to_be_in_set",
        "expect_column_values_to_be_in_type_list",
        "expect_column_values_to_be_null",
        "expect_column_values_to_be_of_type",
        "expect_column_values_to_be_unique",
        "expect_column_values_to_match_like_pattern",
        "expect_column_values_to_match_like_pattern_list",
        "expect_column_values_to_match_regex",
        "expect_column_values_to_match_regex_list",
        "expect_column_values_to_not_be_in_set",
        "expect_column_values_to_not_be_null",
        "expect_column_values_to_not_be_outliers",
        "expect_column_values_to_not_match_like_pattern",
        "expect_column_values_to_not_match_like_pattern_list",
        "expect_column_values_to_not_match_regex",
        "expect_column_values_to_not_match_regex_list",
        "expect_compound_columns_to_be_unique",
        "expect_multicolumn_sum_to_equal",
        "expect_multicolumn_values_to_be_equal",
        "expect_select_column_values_to_be_unique_within_record",
        "expect_table_column_count_to_be_between",
        "expect_table_column_count_to_equal",
        "expect_table_columns_to_match_ordered_list",
        "expect_table_columns_to_match_set",
        "expect_table_row_count_to_be_between",
        "expect_table_row_count_to_equal",
    }
)

_SQL = "runs SQL of its own, which could read or do anything"
_NOT_HERE = "cannot be evaluated on PostgreSQL"
REFUSED: Mapping[str, str] = {
    "unexpected_rows_expectation": _SQL,
    "expect_query_results_to_match_comparison": _SQL,
    "expect_table_row_count_to_equal_other_table": "reads another table, of no known bucket",
    "expect_column_values_to_be_dateutil_parseable": _NOT_HERE,
    "expect_column_values_to_be_decreasing": _NOT_HERE,
    "expect_column_values_to_be_increasing": _NOT_HERE,
    "expect_column_values_to_be_json_parseable": _NOT_HERE,
    "expect_column_values_to_match_json_schema": _NOT_HERE,
    "expect_column_values_to_match_strftime_format": _NOT_HERE,
}
"""Those that are built in and are refused: why."""
