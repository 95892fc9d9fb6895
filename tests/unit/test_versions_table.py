from __future__ import annotations

from pathlib import Path

from tests.versions_table import read, table

REPORT = """<testsuites><testsuite name="pytest">
<testcase name="test_every_pairing[16-to-18-migrate]" time="4.24"/>
<testcase name="test_every_pairing[16-to-18-abort]" time="1"><failure message="lost"/></testcase>
<testcase name="test_every_pairing[18-to-16-reverse]" time="0"><skipped message="none"/></testcase>
<testcase name="test_since_18_a_setting_of_its_own_limits_subscriptions" time="1"/>
</testsuite></testsuites>"""


def test_what_did_not_pass_is_never_shown_as_passed(tmp_path: Path) -> None:
    report = tmp_path / "versions.xml"
    report.write_text(REPORT)
    lines = table(read(report)).splitlines()
    assert len(lines) == 2 + 9
    assert "| 16 | 18 | passed, 4.2 s | not run | failure |" in lines
    assert "| 18 | 16 | not run | skipped | not run |" in lines
