"""The demo's report: one HTML page that a newcomer can read without anything else, and the pictures on it."""

from unirae.app.report.page import write_report
from unirae.app.report.pictures import draw_reconstructions

__all__ = ["draw_reconstructions", "write_report"]
