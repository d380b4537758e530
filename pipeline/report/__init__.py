"""Reports: from the report document to pages that a person, a job summary, or a program reads."""

from pipeline.report.summary import summarise
from pipeline.report.write import write_report

__all__ = ["summarise", "write_report"]
