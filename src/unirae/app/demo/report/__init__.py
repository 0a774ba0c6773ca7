"""The demo's report: one HTML page that a newcomer can read without anything else, and the pictures on it.

``inputs`` reads the demo's folder, ``template.html`` says in words what was found, ``pictures`` and curves (``page``)
are what it shows. To add a section, name it in the template's table of sections and write its body there.
"""

from unirae.app.demo.report.page import write_report
from unirae.app.demo.report.pictures import draw_reconstructions

__all__ = ["draw_reconstructions", "write_report"]
