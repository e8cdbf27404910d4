"""The report: everything that is known of a result on one page, a single file that needs no network."""

from torchmotif.report.page import render, write_report

__all__ = ["render", "write_report"]
