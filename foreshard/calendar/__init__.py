"""The calendar as people keep it: times as they write them, CSV and iCalendar files."""
