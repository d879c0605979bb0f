"""The report: run and audit directories as one HTML page that needs nothing else. No torch at import; it only reads files."""

from __future__ import annotations

from holdfast.report.write import write_report

__all__ = ["write_report"]
